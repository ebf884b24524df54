// SPDX-License-Identifier: Apache-2.0
/** A device behind VT-d: a client's calls, the driver's tables, the model's walks and caches, the client's memory. */
import { describe, expect, it } from 'vitest';
import { iommu_hwpt_vtd_s1, iommu_hwpt_vtd_s1_invalidate } from '../abi/iommufd.ts';
import { attachDevice, detachDevice, replaceDevice } from '../iommufd/change_pt.ts';
import { IommufdDevice } from '../iommufd/device.ts';
import { LocalClient } from '../iommufd/local_client.ts';
import { NO_PASID } from '../iommu/device.ts';
import type { DmaEvent } from '../pci/dma.ts';
import { dmaText } from '../pci/dma_text.ts';
import { Sim } from '../sim/sim.ts';
import { Machine } from './machine.ts';
import { presets } from './presets.ts';

const MEMORY = 0x10_0000n;
const BUFFER = 0x20_0000n;
const PAGES = 16;
const PAGE = 0x1000n;
const IOVA = 0x20_0000n;
const [READ_ONLY, READ_WRITE] = [5, 7];
const [NEST_PARENT, DIRTY] = [1, 2];

/** A client with painted pages, each with its number, and an edu device that may do DMA. */
function setUp(name: string) {
  const description = presets.find((preset) => preset.name === name);
  if (!description) throw new Error(`no preset ${name}`);
  const machine = new Machine({ description, sim: new Sim({ checkLocks: true }) });
  const events: DmaEvent[] = [];
  machine.dmaObserver = { dma: (event) => events.push(event) };
  const client = new LocalClient(machine.iommufd);
  const { mm } = client.process;
  mm.map(MEMORY, PAGES * 0x1000);
  mm.map(BUFFER, 0x1000);
  for (let page = 0; page < PAGES; page++) {
    mm.copyOut(MEMORY + BigInt(page) * PAGE, new Uint8Array(0x1000).fill(page));
  }
  const ioas = client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
  const map = (iova: bigint, page: number, pages: number, flags = READ_WRITE) =>
    client.call('IOMMU_IOAS_MAP', {
      ...{ flags, ioas_id: ioas, iova },
      user_va: MEMORY + BigInt(page) * PAGE,
      length: BigInt(pages) * PAGE,
    });
  const unmap = (iova: bigint, pages: number) =>
    client.call('IOMMU_IOAS_UNMAP', { ioas_id: ioas, iova, length: BigInt(pages) * PAGE });
  const [fn] = machine.pciDevices;
  const bar = fn?.bars[0];
  if (!fn || !bar) throw new Error('no edu');
  fn.config.write(4, 2, 6);
  const bound = IommufdDevice.claim(client.file.context, fn.device);
  const hwpt = (pt_id: number, more: object = {}): number =>
    client.call('IOMMU_HWPT_ALLOC', { dev_id: bound.id, pt_id, data_uptr: BUFFER, ...more })
      .out_hwpt_id;
  /** Between the device's buffer and memory; in words how it ended. */
  const transfer = (iova: bigint, toMemory: boolean): string => {
    bar.write(0x80, 8, toMemory ? 0x4_0000n : iova);
    bar.write(0x88, 8, toMemory ? iova : 0x4_0000n);
    bar.write(0x90, 8, 8n);
    bar.write(0x98, 4, toMemory ? 3n : 1n);
    machine.iommufd.sim.clock.advanceBy(200_000_000);
    machine.iommufd.sim.settle();
    const last = events.at(-1);
    return last ? dmaText(last).replace(/^dma \S+ /, '') : 'nothing';
  };
  const bytes = (page: number): number[] => {
    const read = new Uint8Array(8);
    mm.copyIn(MEMORY + BigInt(page) * PAGE, read);
    return [...read];
  };
  /** The page that the device reads at an address: it writes what it read to the page at `to`. */
  const copy = (from: bigint, to: bigint): string[] => [transfer(from, false), transfer(to, true)];
  return { machine, client, mm, bound, ioas, map, unmap, hwpt, transfer, bytes, copy };
}

describe.each(['vtd', 'vtd-legacy'])('an edu device on the machine %s', (name) => {
  it('reads and writes what is mapped, and nothing that is not, or no longer', () => {
    const { bound, ioas, map, unmap, copy, bytes, transfer, client } = setUp(name);
    expect(transfer(IOVA, false)).toMatch(/refused/);
    attachDevice(bound, NO_PASID, ioas);
    map(IOVA, 3, 2);
    for (const text of copy(IOVA, IOVA + PAGE)) expect(text).toMatch(/: ok$/);
    expect(bytes(4)).toEqual(Array(8).fill(3));
    expect(transfer(IOVA + 2n * PAGE, false)).toMatch(/refused/);
    map(IOVA + 4n * PAGE, 5, 1, READ_ONLY);
    expect(transfer(IOVA + 4n * PAGE, false)).toMatch(/: ok$/);
    expect(transfer(IOVA + 4n * PAGE, true)).toMatch(/refused .* not writable/);
    unmap(IOVA, 2);
    expect(transfer(IOVA, false)).toMatch(/refused/);
    map(IOVA, 6, 1);
    expect(transfer(IOVA, false)).toMatch(/: ok$/);
    detachDevice(client.file.context, bound, NO_PASID);
    expect(transfer(IOVA, false)).toMatch(/refused .*no table/);
  });

  it('goes from one address space to another', () => {
    const { bound, ioas, map, copy, bytes, client, hwpt } = setUp(name);
    attachDevice(bound, NO_PASID, ioas);
    map(IOVA, 3, 2);
    copy(IOVA, IOVA + PAGE);
    const other = client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
    client.call('IOMMU_IOAS_MAP', {
      ...{ flags: READ_WRITE, ioas_id: other, iova: IOVA },
      ...{ user_va: MEMORY + 7n * PAGE, length: 2n * PAGE },
    });
    replaceDevice(bound, NO_PASID, hwpt(other));
    copy(IOVA, IOVA + PAGE);
    expect(bytes(8)).toEqual(Array(8).fill(7));
    expect(bytes(4)).toEqual(Array(8).fill(3));
  });
});

it('its driver is done when the hardware is, whoever runs meanwhile', () => {
  const description = presets.find((preset) => preset.name === 'vtd');
  for (let seed = 1; seed <= 20; seed++) {
    const sim = new Sim({ choices: 'random', seed });
    const machine = new Machine({ sim, ...(description && { description }) });
    expect(machine.iommufd.core.warnings).toEqual([]);
  }
});

describe('what only scalable mode has', () => {
  const GUEST = 0x4000_0000n;
  const ADDRESS = 0x765_4000n; // within the 28 bits of edu
  const [TABLE, LEAF_BITS] = [7n, 7n];
  const index = (level: number): number => Number((ADDRESS >> BigInt(12 + 9 * level)) & 511n);

  it('a table of the guest in its own memory, on the one below; stale until it is invalidated', () => {
    const { client, mm, ioas, map, hwpt, bound, transfer, bytes } = setUp('vtd');
    map(GUEST, 0, PAGES);
    const item = (page: number, at: number, value: bigint): void =>
      void mm.copyOut(
        MEMORY + BigInt(page) * PAGE + BigInt(at) * 8n,
        new Uint8Array(BigUint64Array.of(value).buffer),
      );
    for (let page = 0; page < 4; page++) {
      mm.copyOut(MEMORY + BigInt(page) * PAGE, new Uint8Array(0x1000));
    }
    for (let level = 3; level > 0; level--) {
      item(3 - level, index(level), GUEST + BigInt(4 - level) * PAGE + TABLE);
    }
    item(3, index(0), GUEST + 9n * PAGE + LEAF_BITS);
    const parent = hwpt(ioas, { flags: NEST_PARENT });
    const said = new Uint8Array(iommu_hwpt_vtd_s1.size);
    const cmd = iommu_hwpt_vtd_s1.on(new DataView(said.buffer));
    cmd.pgtbl_addr = GUEST;
    cmd.addr_width = 48;
    mm.copyOut(BUFFER, said);
    const nested = hwpt(parent, { data_type: 1, data_len: said.length });
    attachDevice(bound, NO_PASID, nested);
    expect(transfer(ADDRESS, false)).toMatch(/: ok$/);
    expect(transfer(ADDRESS, true)).toMatch(/: ok$/); // so that it is cached as dirty
    item(3, index(0), GUEST + 10n * PAGE + LEAF_BITS);
    expect(transfer(ADDRESS, true)).toMatch(/: ok$/);
    expect([bytes(9), bytes(10)]).toEqual([Array(8).fill(9), Array(8).fill(10)]); // to the old page
    const request = new Uint8Array(iommu_hwpt_vtd_s1_invalidate.size);
    const entry = iommu_hwpt_vtd_s1_invalidate.on(new DataView(request.buffer));
    entry.addr = ADDRESS;
    entry.npages = 1n;
    mm.copyOut(BUFFER, request);
    const { reply } = client.tryCall('IOMMU_HWPT_INVALIDATE', {
      ...{ hwpt_id: nested, data_uptr: BUFFER, data_type: 0 },
      ...{ entry_len: request.length, entry_num: 1 },
    });
    expect(reply.entry_num).toBe(1);
    transfer(ADDRESS, true);
    expect(bytes(10)).toEqual(Array(8).fill(9)); // to the new one
    // The hardware has marked the guest's entry: accessed, dirty.
    const marked = new Uint8Array(8);
    mm.copyIn(MEMORY + 3n * PAGE + BigInt(index(0)) * 8n, marked);
    expect((marked[0] ?? 0) & 0x60).toBe(0x60);
  });

  it('dirty bits, which the hardware sets where the device wrote', () => {
    const { machine, ioas, map, hwpt, bound, transfer } = setUp('vtd');
    map(IOVA, 0, 8);
    const id = hwpt(ioas, { flags: DIRTY });
    attachDevice(bound, NO_PASID, id);
    const domain = bound.device.group?.domain as unknown as {
      dirty: { setTracking(on: boolean): number; readAndClear(...args: unknown[]): number };
    };
    expect(domain.dirty.setTracking(true)).toBe(0);
    transfer(IOVA + 2n * PAGE, false);
    transfer(IOVA + 3n * PAGE, true);
    const told: number[] = [];
    const gather = { addRange: () => undefined };
    domain.dirty.readAndClear(IOVA, 16, 1, gather, (frame: number) =>
      told.push((frame - Number(IOVA / 2048n)) / 2),
    );
    expect(told).toEqual([3]);
    expect(machine.iommufd.core.warnings).toEqual([]);
  });
});
