// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FRAME_SIZE } from '../memory/frame.ts';
import { DmaCause } from './dma.ts';
import { dmaText } from './dma_text.ts';
import { FakePath } from './fake_path.ts';
import { type FunctionOptions, PciFunction } from './function.ts';

const IOVA = 0x10_0000n;
const FRAME = BigInt(FRAME_SIZE);
const PAINT = 0xa5;

function make(frames = 16, options: Partial<FunctionOptions> = {}) {
  const path = new FakePath(frames);
  path.bytes.fill(PAINT);
  const identity = {
    vendorId: 1,
    deviceId: 2,
    revisionId: 0,
    classCode: 0,
    subsystemVendorId: 0,
    subsystemId: 0,
  };
  const address = { domain: 0, bus: 0, device: 2, function: 0 };
  const fn = new PciFunction({ address, identity, ...options }, path);
  fn.config.write(4, 2, 4);
  return { path, fn, dma: fn.dma };
}

const painted = (path: FakePath): boolean => path.bytes.every((byte) => byte === PAINT);

describe('a DMA', () => {
  it('goes by frames, wherever they are, and is told once with the first of them', () => {
    const { path, dma } = make();
    path.map(IOVA, 9).map(IOVA + FRAME, 3);
    const data = Uint8Array.from({ length: 100 }, (_, i) => i);
    expect(dma.write(IOVA + FRAME - 60n, data)).toBeUndefined();
    expect(path.bytes.subarray(9 * FRAME_SIZE + FRAME_SIZE - 60, 10 * FRAME_SIZE)).toEqual(
      data.subarray(0, 60),
    );
    expect(path.bytes.subarray(3 * FRAME_SIZE, 3 * FRAME_SIZE + 40)).toEqual(data.subarray(60));
    const back = new Uint8Array(100);
    expect(dma.read(IOVA + FRAME - 60n, back)).toBeUndefined();
    expect(back).toEqual(data);
    expect(path.events.map(dmaText)).toEqual([
      'dma 0000:00:02.0 write 0x1007c4+100 -> frame 0x9: ok',
      'dma 0000:00:02.0 read 0x1007c4+100 -> frame 0x9: ok',
    ]);
  });

  it('moves exactly its bytes, or is refused and moves none, for every range and hole', () => {
    const range = fc.record({
      start: fc.nat(4 * FRAME_SIZE),
      length: fc.integer({ min: 1, max: 3 * FRAME_SIZE }),
      hole: fc.nat(6),
    });
    fc.assert(
      fc.property(range, ({ start, length, hole }) => {
        const { path, dma } = make();
        for (let i = 0; i < 8; i++) if (i !== hole) path.map(IOVA + BigInt(i) * FRAME, 15 - i);
        const first = Math.floor(start / FRAME_SIZE);
        const last = Math.floor((start + length - 1) / FRAME_SIZE);
        const fault = dma.write(IOVA + BigInt(start), new Uint8Array(length).fill(1));
        if (first <= hole && hole <= last) {
          expect(fault?.cause).toBe(DmaCause.NOT_MAPPED);
          expect(fault?.at).toBe(IOVA + BigInt(first === hole ? start : hole * FRAME_SIZE));
          expect(painted(path)).toBe(true);
        } else {
          expect(fault).toBeUndefined();
          expect(path.bytes.filter((byte) => byte === 1)).toHaveLength(length);
        }
        expect(path.events).toHaveLength(1);
      }),
      { numRuns: 200 },
    );
  });

  it('that is refused reads as ones, all of it, and notes a Received Master Abort', () => {
    const { path, fn, dma } = make();
    path.map(IOVA, 1);
    const into = new Uint8Array(FRAME_SIZE + 1);
    expect(dma.read(IOVA, into)?.at).toBe(IOVA + FRAME);
    expect(into.every((byte) => byte === 0xff)).toBe(true);
    expect(fn.config.read(6, 2)).toBe(0x2000);
    fn.config.write(6, 2, 0x2000);
    expect(fn.config.read(6, 2)).toBe(0);
    dma.write(IOVA, into);
    expect(fn.config.read(6, 2)).toBe(0); // posted: nobody tells the requester
  });

  it.each([
    [{ writable: false }, 'write', DmaCause.NOT_WRITABLE, '0x100800 is not writable'],
    [{ readable: false }, 'read', DmaCause.NOT_READABLE, '0x100800 is not readable'],
  ] as const)('needs the permission: %j', (access, way, cause, words) => {
    const { path, dma } = make();
    path.map(IOVA, 1).map(IOVA + FRAME, 2, access);
    expect(dma[way](IOVA, new Uint8Array(2 * FRAME_SIZE))?.cause).toBe(cause);
    expect(painted(path)).toBe(true);
    expect(path.events.map(dmaText)).toEqual([
      `dma 0000:00:02.0 ${way} 0x100000+4096: refused (${words})`,
    ]);
  });

  it('of a function that is no bus master never gets to the IOMMU', () => {
    const { path, fn, dma } = make();
    path.map(IOVA, 1);
    fn.config.write(4, 2, 0);
    path.translate = () => {
      throw new Error('the IOMMU was asked');
    };
    expect(dma.write(IOVA, new Uint8Array(4))?.cause).toBe(DmaCause.BUS_MASTER_OFF);
    expect(fn.config.read(6, 2)).toBe(0);
    expect(path.events.map(dmaText)).toEqual([
      'dma 0000:00:02.0 write 0x100000+4: refused (bus mastering is off)',
    ]);
  });

  it('beyond 2^64 is refused, up to it is not', () => {
    const { path, dma } = make();
    path.map(2n ** 64n - FRAME, 1);
    expect(dma.write(2n ** 64n - 4n, new Uint8Array(4))).toBeUndefined();
    expect(dma.write(2n ** 64n - 4n, new Uint8Array(5))?.cause).toBe(DmaCause.WRAPS);
  });

  it('to what is no memory is refused', () => {
    const { path, dma } = make(4);
    path.map(IOVA, 100);
    const into = new Uint8Array(4);
    expect(dma.read(IOVA, into)?.cause).toBe(DmaCause.NO_MEMORY);
    expect([...into]).toEqual([255, 255, 255, 255]);
  });

  it('names its PASID', () => {
    const { path, fn, dma } = make(16, { pasid: { width: 8 }, express: {} });
    fn.pasid?.enable(true);
    dma.read(IOVA, new Uint8Array(4), 7);
    expect(path.events.map(dmaText)).toEqual([
      'dma 0000:00:02.0 pasid 7 read 0x100000+4: refused (no table is attached)',
    ]);
  });

  it.each([
    ['without the capability', {}, 7, 0],
    ['with more bits than it has', { pasid: { width: 3 } }, 8, 0],
    ['to execute, which it can not', { pasid: { width: 3 } }, 7, 2],
    ['as privileged, which it can not', { pasid: { execute: true } }, 7, 4],
  ] as const)('with a PASID %s stays in the function', (_how, options, pasid, mode) => {
    const { path, fn, dma } = make(16, { ...options, express: {} });
    fn.pasid?.enable(true);
    expect(dma.read(IOVA, new Uint8Array(4), pasid, mode)?.cause).toBe(DmaCause.PASID_OFF);
    expect(fn.config.get(6, 2) & 0x2000).toBe(0); // no master abort: nothing was sent
    expect(path.events.map(dmaText)[0]).toContain('requests with this PASID are off');
  });

  it('of no bytes is none', () => {
    const { path, dma } = make();
    expect(dma.read(0n, new Uint8Array())).toBeUndefined();
    expect(path.events).toEqual([]);
  });
});
