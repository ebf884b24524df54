// SPDX-License-Identifier: Apache-2.0
/**
 * Takes out each invalidation of the driver for VT-d, one at a time, by the place in the source that asks for it: the DMA that is
 * served from what was not forgotten names it.
 */
import { describe, expect, it, vi } from 'vitest';
import { attachDevice, detachDevice, replaceDevice } from '../iommufd/change_pt.ts';
import { IommufdDevice } from '../iommufd/device.ts';
import { LocalClient } from '../iommufd/local_client.ts';
import { NO_PASID } from '../iommu/device.ts';
import { RequestMode } from '../pci/translator.ts';
import { textsOf, unnamedLosses } from './lost_invalidations.ts';
import { Machine } from './machine.ts';
import { presets } from './presets.ts';
import type { StaleTranslation } from './stale_translations.ts';

vi.mock('../drivers/intel/descriptors.ts', async (original) => {
  const { withLosses } = await import('./lost_invalidations.ts');
  return withLosses(await original());
});

const MEMORY = 0x4000_0000n;
const PAGE = 0x1000n;
const IOVA = 0x4000_0000n;
const LARGE = 0x20_0000n;
const [NEST_PARENT, DIRTY, FOR_PASIDS] = [1, 2, 8];
const PASID = 5;
/** Of the device: src/pci/endpoints/iommu_test/README.md. */
const [PASID_PRESENT, CACHED_WRITE] = [0x8000_0000, 4];

function setUp(name: string, report: (found: StaleTranslation) => void) {
  const description = presets.find((preset) => preset.name === name);
  if (!description) throw new Error(`no preset ${name}`);
  const machine = new Machine({ description, onStale: report });
  const client = new LocalClient(machine.iommufd);
  client.process.mm.map(MEMORY, Number(4n * LARGE));
  const [fn] = machine.pciDevices;
  if (!fn) throw new Error('no function');
  fn.config.write(4, 2, 6);
  const bound = IommufdDevice.claim(client.file.context, fn.device);
  const ioas = (): number => client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
  const map = (ioas_id: number, iova: bigint, from: bigint, length: bigint) =>
    client.call('IOMMU_IOAS_MAP', {
      ...{ flags: 7, ioas_id, iova, length },
      user_va: MEMORY + from,
    });
  const unmap = (ioas_id: number, iova: bigint, length: bigint) =>
    client.call('IOMMU_IOAS_UNMAP', { ioas_id, iova, length });
  const hwpt = (pt_id: number, flags: number): number =>
    client.call('IOMMU_HWPT_ALLOC', { dev_id: bound.id, pt_id, flags }).out_hwpt_id;
  /** The device touches a page, both ways. */
  const touch = (iova: bigint): void => {
    fn.dma.read(iova, new Uint8Array(8));
    fn.dma.write(iova, new Uint8Array(8));
  };
  return { machine, fn, client, bound, ioas, map, unmap, hwpt, touch };
}

/** What a client does that makes the driver ask for invalidations, with DMA after each step. */
function play(name: string, report: (found: StaleTranslation) => void): void {
  const { client, bound, ioas, map, unmap, hwpt, touch } = setUp(name, report);
  const [a, b] = [ioas(), ioas()];
  map(a, IOVA, 0n, 4n * PAGE);
  map(b, IOVA, 2n * LARGE, 4n * PAGE);
  const everywhere = (): void => {
    for (let page = 0n; page < 4n; page++) touch(IOVA + page * PAGE);
    touch(IOVA + 2n * LARGE);
  };
  // Attach, replace, detach; what changes meanwhile is not flushed, for nobody has it.
  attachDevice(bound, NO_PASID, a);
  everywhere();
  detachDevice(client.file.context, bound, NO_PASID);
  unmap(a, IOVA, 4n * PAGE);
  map(a, IOVA, LARGE, 4n * PAGE);
  attachDevice(bound, NO_PASID, a);
  everywhere();
  replaceDevice(bound, NO_PASID, b);
  everywhere();
  detachDevice(client.file.context, bound, NO_PASID);
  everywhere();
  // Unmap of leaves, and of whole tables.
  attachDevice(bound, NO_PASID, a);
  everywhere();
  unmap(a, IOVA, 4n * PAGE);
  everywhere();
  map(a, IOVA + 2n * LARGE, LARGE, PAGE);
  everywhere();
  unmap(a, 0n, 2n ** 64n - 1n);
  map(a, IOVA + 2n * LARGE, 3n * LARGE, LARGE);
  everywhere();
  unmap(a, 0n, 2n ** 64n - 1n);
  everywhere();
  map(a, IOVA, 0n, 4n * PAGE);
  // Second stages, and dirty tracking where there is one.
  for (const flags of name === 'vtd' ? [NEST_PARENT, DIRTY] : []) {
    const second = hwpt(a, flags);
    everywhere();
    replaceDevice(bound, NO_PASID, second);
    everywhere();
    if (flags === DIRTY) {
      const track = (on: number) =>
        client.call('IOMMU_HWPT_SET_DIRTY_TRACKING', { hwpt_id: second, flags: on });
      track(1);
      everywhere();
      client.call('IOMMU_HWPT_GET_DIRTY_BITMAP', {
        ...{ hwpt_id: second, iova: IOVA, length: 4n * PAGE },
        ...{ page_size: PAGE, data: MEMORY },
      });
      everywhere();
      track(0);
      everywhere();
      track(1);
      everywhere();
    }
    unmap(a, IOVA, 4n * PAGE);
    everywhere();
    map(a, IOVA, 0n, 4n * PAGE);
    everywhere();
    replaceDevice(bound, NO_PASID, a);
    everywhere();
    unmap(a, IOVA, 4n * PAGE);
    map(a, IOVA, LARGE, 4n * PAGE);
    replaceDevice(bound, NO_PASID, second);
    everywhere();
    replaceDevice(bound, NO_PASID, a);
  }
  detachDevice(client.file.context, bound, NO_PASID);
  everywhere();
}

/** The same with a device that has PASIDs and keeps translations of its own. */
function playShared(name: string, report: (found: StaleTranslation) => void): void {
  const { machine, fn, client, bound, ioas, map, unmap, hwpt } = setUp(name, report);
  const { context } = client.file;
  const set = (at: number, value: number): void =>
    fn.bars[0]?.write(0x1000 + at, 4, BigInt(value >>> 0));
  const touch = (iova: bigint, pasid: number): void => {
    fn.dma.write(iova, new Uint8Array(8), pasid, pasid === NO_PASID ? 0 : RequestMode.PASID);
    set(0x08, Number(iova));
    set(0x10, 8);
    set(0x18, pasid === NO_PASID ? 0 : PASID_PRESENT + pasid);
    set(0x30, CACHED_WRITE);
    machine.iommufd.sim.settle();
  };
  const [a, b] = [ioas(), ioas()];
  const fill = (from: bigint): void => void map(a, IOVA, from, 2n * PAGE);
  fill(0n);
  map(b, IOVA, 2n * LARGE, 2n * PAGE);
  const everywhere = (): void => {
    for (const pasid of [NO_PASID, PASID])
      for (let page = 0n; page < 2n; page++) touch(IOVA + page * PAGE, pasid);
  };
  for (const flags of [FOR_PASIDS, FOR_PASIDS | DIRTY]) {
    const [one, other] = [hwpt(a, flags), hwpt(b, flags)];
    for (const pasid of [NO_PASID, PASID]) attachDevice(bound, pasid, one);
    everywhere();
    unmap(a, IOVA, 2n * PAGE);
    everywhere();
    fill(LARGE);
    everywhere();
    for (const pasid of [NO_PASID, PASID]) {
      replaceDevice(bound, pasid, other);
      everywhere();
      replaceDevice(bound, pasid, one);
      everywhere();
    }
    // What changes while nothing is attached is not flushed, for nobody has it.
    for (const pasid of [PASID, NO_PASID]) {
      detachDevice(context, bound, pasid);
      everywhere();
    }
    unmap(a, IOVA, 2n * PAGE);
    fill(0n);
    for (const pasid of [NO_PASID, PASID]) {
      attachDevice(bound, pasid, one);
      everywhere();
    }
    for (const pasid of [PASID, NO_PASID]) detachDevice(context, bound, pasid);
    everywhere();
  }
}

const PLAYS = [
  ['vtd', play],
  ['vtd-legacy', play],
  ['vtd-page-faults', playShared],
] as const;

describe.each(PLAYS)('on the machine %s', (name, play) => {
  it('a driver that forgets nothing is never blamed', () => {
    expect(textsOf((report) => play(name, report), {})).toEqual([]);
  });

  it('each invalidation that is taken out is named at the DMA that misses it', () => {
    const { asked, unnamed } = unnamedLosses((report) => play(name, report));
    expect(asked).toBeGreaterThan(2);
    expect(unnamed).toEqual([]);
  });
});

it('an interrupt message, which no table translates, is no stale translation', () => {
  const found: string[] = [];
  const { bound, ioas, fn } = setUp('vtd', ({ text }) => found.push(text));
  attachDevice(bound, NO_PASID, ioas());
  fn.dma.write(0xfee0_0000n, new Uint8Array(4));
  fn.dma.read(0xfee0_0000n, new Uint8Array(4));
  expect(found).toEqual([]);
});
