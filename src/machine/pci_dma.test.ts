// SPDX-License-Identifier: Apache-2.0
/** A device's DMA through /dev/iommu to a client's memory, and against everything that takes the memory away. */
import { describe, expect, it } from 'vitest';
import { attachDevice, detachDevice } from '../iommufd/change_pt.ts';
import { IommufdDevice } from '../iommufd/device.ts';
import { LocalClient } from '../iommufd/local_client.ts';
import { NO_PASID } from '../iommu/device.ts';
import type { DmaEvent } from '../pci/dma.ts';
import { dmaText } from '../pci/dma_text.ts';
import { resetFunction } from '../pci/reset.ts';
import { exploreOrThrow } from '../sim/explore.ts';
import { Sim } from '../sim/sim.ts';
import type { Body } from '../sim/task.ts';
import { Machine } from './machine.ts';
import { presets } from './presets.ts';

const MEMORY = 0x10_0000n;
const PAGE = 0x1000;
const IOVA = 0x20_0000n;
const PAINT = 0xa5;
const DATA = 0x5a;
const [FIXED_IOVA, WRITEABLE, READABLE] = [1, 2, 4];

/** A client with three painted pages, of which the middle one is mapped for an edu device that is attached. */
function setUp(sim = new Sim({ checkLocks: true })) {
  const description = presets.find(({ name }) => name === 'edu');
  if (!description) throw new Error('no preset edu');
  const machine = new Machine({ description, sim });
  const events: DmaEvent[] = [];
  machine.dmaObserver = { dma: (event) => events.push(event) };
  const client = new LocalClient(machine.iommufd);
  const { mm } = client.process;
  mm.map(MEMORY, 3 * PAGE);
  const fill = (value: number) => mm.copyOut(MEMORY, new Uint8Array(3 * PAGE).fill(value));
  const memory = (): Uint8Array => {
    const bytes = new Uint8Array(3 * PAGE);
    mm.copyIn(MEMORY, bytes);
    return bytes;
  };
  fill(PAINT);
  const ioas = client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
  const map = (flags = FIXED_IOVA | WRITEABLE | READABLE, iova = IOVA) =>
    client.call('IOMMU_IOAS_MAP', {
      flags,
      ioas_id: ioas,
      user_va: MEMORY + BigInt(PAGE),
      length: BigInt(PAGE),
      iova,
    });
  const [fn] = machine.pciDevices;
  const bar = fn?.bars[0];
  if (!fn || !bar) throw new Error('no edu');
  fn.config.write(4, 2, 6);
  const bound = IommufdDevice.claim(client.file.context, fn.device);
  // A table made by hand: it outlives the attachment, so that a DMA after a detach would find its way.
  const { out_hwpt_id } = client.call('IOMMU_HWPT_ALLOC', { dev_id: bound.id, pt_id: ioas });
  const attach = () => attachDevice(bound, NO_PASID, out_hwpt_id);
  const detach = () => detachDevice(client.file.context, bound, NO_PASID);
  const unmap = () =>
    client.call('IOMMU_IOAS_UNMAP', { ioas_id: ioas, iova: IOVA, length: BigInt(PAGE) });
  /** From the device's buffer to the memory, or the other way. */
  const transfer = (iova: bigint, toMemory = true, count = PAGE) => {
    bar.write(0x80, 8, toMemory ? 0x4_0000n : iova);
    bar.write(0x88, 8, toMemory ? iova : 0x4_0000n);
    bar.write(0x90, 8, BigInt(count));
    bar.write(0x98, 4, toMemory ? 7n : 5n);
  };
  /** The buffer gets DATA, by DMA as everything. */
  const load = () => {
    fill(DATA);
    transfer(IOVA, false);
    fill(PAINT);
    events.length = 0;
    bar.write(0x64, 4, 0x100n);
  };
  return {
    ...{ machine, client, mm, memory, map, attach, detach, unmap, transfer, load, fn, bound },
    ...{ events, sim, hwpt: out_hwpt_id },
  };
}

function* inSteps(steps: readonly (() => void)[]): Body {
  for (const [i, step] of steps.entries()) {
    if (i > 0) yield `step ${i}`;
    step();
  }
}

const bytes = (value: number): Uint8Array => new Uint8Array(PAGE).fill(value);

describe('a DMA of a client that has bound and attached a device', () => {
  it('brings bytes there and back, and touches nothing else', () => {
    const it = setUp();
    it.attach();
    it.map();
    it.load();
    it.transfer(IOVA);
    const painted = it.memory();
    expect(painted.subarray(PAGE, 2 * PAGE)).toEqual(bytes(DATA));
    expect(painted.subarray(0, PAGE)).toEqual(bytes(PAINT));
    expect(painted.subarray(2 * PAGE)).toEqual(bytes(PAINT));
    expect(it.events.map(dmaText)).toEqual([
      expect.stringMatching(/^dma 0000:00:02\.0 write 0x200000\+4096 -> frame 0x[0-9a-f]+: ok$/),
    ]);
  });

  it.each([
    ['before it is attached', () => undefined, 'no table is attached'],
    [
      'to an address that is not mapped',
      (it: ReturnType<typeof setUp>) => it.attach(),
      '0x200000 is not mapped',
    ],
    [
      'to memory mapped for reading',
      (it: ReturnType<typeof setUp>) => [it.attach(), it.map(FIXED_IOVA | READABLE)],
      '0x200000 is not writable',
    ],
  ] as const)('%s is refused, and says why', (_when, prepare, why) => {
    const it = setUp();
    prepare(it);
    it.transfer(IOVA);
    expect(it.memory().every((byte) => byte === PAINT)).toBe(true);
    expect(it.events.map(dmaText)).toEqual([
      `dma 0000:00:02.0 write 0x200000+4096: refused (${why})`,
    ]);
  });

  it('across a hole is refused as a whole', () => {
    const it = setUp();
    it.attach();
    it.map();
    it.load();
    it.transfer(IOVA + 0x800n);
    expect(it.memory().every((byte) => byte === PAINT)).toBe(true);
    expect(it.events[0]?.fault?.at).toBe(IOVA + 0x1000n);
  });

  it('lands in the page that was mapped, after its client has put other memory at the address', () => {
    const it = setUp();
    it.attach();
    it.map();
    it.load();
    it.mm.unmap(MEMORY + BigInt(PAGE), PAGE);
    it.mm.map(MEMORY + BigInt(PAGE), PAGE);
    it.transfer(IOVA);
    expect(it.events[0]?.fault).toBeUndefined();
    expect(it.memory().subarray(PAGE, 2 * PAGE)).toEqual(bytes(0));
  });

  it('after its client has died reads ones, and what it writes is nowhere', () => {
    const it = setUp();
    it.attach();
    it.map();
    it.mm.kill();
    it.transfer(IOVA, false);
    it.transfer(IOVA);
    expect(it.events.map(({ fault }) => fault)).toEqual([undefined, undefined]);
  });

  it('cannot be aimed at the interrupt window, which no client can map', () => {
    const it = setUp();
    it.attach();
    expect(() => it.map(undefined, 0xfee0_0000n)).toThrow('reserved');
  });

  it('leaves nothing behind when device and context are closed', () => {
    const it = setUp();
    it.attach();
    it.map();
    it.transfer(IOVA);
    it.detach();
    it.client.call('IOMMU_DESTROY', { id: it.hwpt });
    it.bound.unbind();
    it.client.close();
    expect(it.machine.memory.pinCount).toBe(0);
    expect(it.machine.iommufd.contexts).toEqual([]);
    expect(it.machine.iommufd.core.warnings).toEqual([]);
  });
});

describe('a DMA under way against what takes its memory away, in every interleaving', () => {
  type World = ReturnType<typeof setUp>;

  /** By name: what each does, step by step. */
  type Operations = (it: World, take: () => void) => Record<string, readonly (() => void)[]>;

  /**
   * Runs `operations` as tasks against a driver with two doorbells; each calls `take` when the memory must not be written any
   * more. Returns how many interleavings there were, and how often DMAs were done and refused in them.
   */
  function race(operations: Operations) {
    const seen = { runs: 0, done: 0, refused: 0 };
    seen.runs = exploreOrThrow((sim) => {
      const it = setUp(sim);
      it.attach();
      it.map();
      it.load();
      /** What memory held when it was taken away; undefined while the device may write to it. */
      let taken: Uint8Array | undefined;
      it.machine.dmaObserver = {
        dma: (event) => {
          if (event.fault) seen.refused++;
          else seen.done++;
          if (taken && !event.fault) {
            throw new Error(`${dmaText(event)}, after the memory was taken away`);
          }
        },
      };
      sim.spawn('driver', function* () {
        it.transfer(IOVA);
        yield 'the second doorbell';
        it.transfer(IOVA);
      });
      const all = operations(it, () => (taken ??= it.memory()));
      for (const [name, steps] of Object.entries(all)) sim.spawn(name, inSteps(steps));
      return () => {
        if (!taken) throw new Error('nothing was taken away');
        const now = it.memory();
        const [first = 0] = taken.subarray(PAGE);
        const wrong = now.findIndex((byte, i) => {
          const inside = i >= PAGE && i < 2 * PAGE;
          // As when it was taken; whole or not at all; and nothing beside it.
          return byte !== taken?.[i] || byte !== (inside ? first : PAINT);
        });
        if (wrong >= 0) throw new Error(`byte ${wrong} of memory is ${now[wrong]}`);
        expect(it.machine.iommufd.core.warnings).toEqual([]);
      };
    });
    return seen;
  }

  it('unmap', () => {
    const { runs, done, refused } = race((it, take) => ({
      unmap: [() => (it.unmap(), take())],
    }));
    expect(runs).toBeGreaterThan(5);
    expect(done).toBeGreaterThan(0);
    expect(refused).toBeGreaterThan(0);
  });

  it('detach', () => {
    const { done, refused } = race((it, take) => ({
      detach: [() => (it.detach(), take())],
    }));
    expect(done).toBeGreaterThan(0);
    expect(refused).toBeGreaterThan(0);
  });

  it('unmap and detach together, by two threads', () => {
    const { runs } = race((it, take) => ({
      unmap: [() => (it.unmap(), take())],
      detach: [() => (it.detach(), take())],
    }));
    expect(runs).toBeGreaterThan(50);
  });

  it('a reset, after which the old life of the device does nothing', () => {
    const { done, refused } = race((it, take) => ({
      reset: [() => (it.fn.reset(), take())],
    }));
    expect(done).toBeGreaterThan(0);
    expect(refused).toBe(0);
  });

  it('close of the device, step by step, then of /dev/iommu', () => {
    const { done, refused } = race((it, take) => ({
      close: [
        () => resetFunction(it.fn),
        () => (it.detach(), take()),
        () => {
          it.bound.unbind();
          it.client.close();
          expect(it.machine.memory.pinCount).toBe(0);
          expect(it.machine.iommufd.contexts).toEqual([]);
        },
      ],
    }));
    expect(done).toBeGreaterThan(0);
    expect(refused).toBeGreaterThan(0);
  });
});
