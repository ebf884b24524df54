// SPDX-License-Identifier: Apache-2.0
/**
 * A guest that changes its tables whenever it likes, a client who changes what is below them, and a device at work meanwhile, at random: none
 * of them is blamed. With one invalidation of the driver taken out, it is.
 */
import { describe, expect, it, vi } from 'vitest';
import { Prng } from '../base/prng.ts';
import { attachDevice, detachDevice, replaceDevice } from '../iommufd/change_pt.ts';
import { NO_PASID } from '../iommu/device.ts';
import { Sim } from '../sim/sim.ts';
import type { Body } from '../sim/task.ts';
import * as guest from './guest_rig.ts';
import { ADDRESS, GuestRig, PAGE, PD, PDPT, PML4, PT } from './guest_rig.ts';
import { type Play, places } from './lost_invalidations.ts';

vi.mock('../drivers/intel/descriptors.ts', async (original) => {
  const { withLosses } = await import('./lost_invalidations.ts');
  return withLosses(await original());
});

const { MEMORY, OTHER_PT, OTHER_PML4, READ, WRITE, CACHED_READ, CACHED_WRITE, FORGET } = guest;
/** More tables, beside those of the rig. */
const OTHER_PD = 6;
const PASID = 5;
const LEAVES = 4;
/** 2 MiB that are mapped by one entry lead to the guest's memory here, at the same pages. */
const IN_LARGE = 0x10_0000n;
/** Before the guest's memory, where 2 MiB begin. */
const FIRST_PAGE_OF_LARGE = -256;
const STEPS = 120;

class RandomGuest {
  readonly rig: GuestRig;
  readonly #prng: Prng;
  readonly #pasids: readonly number[];
  readonly #attached = new Map<number, number>();
  readonly #hwpts: readonly number[];
  readonly #nested: readonly number[];
  readonly #unmapped = new Set<number>();
  #tracks = 0;
  #slot = 0;

  constructor(preset: string, seed: number, report: Parameters<Play>[0]) {
    this.#prng = new Prng(seed);
    const sim = new Sim({ checkLocks: true, choices: 'random', seed });
    const rig = new GuestRig(preset, report, sim);
    this.rig = rig;
    this.#pasids = rig.fn.pasid ? [NO_PASID, PASID] : [NO_PASID];
    const flags = rig.fn.pasid ? guest.FOR_PASIDS : 0;
    const parent = rig.hwpt(rig.ioas, { flags: guest.NEST_PARENT | guest.DIRTY | flags });
    this.#nested = [rig.nested(parent, flags), rig.nested(parent, flags, OTHER_PML4)];
    // Without a guest's table the device meets the client's own at the same addresses.
    this.#mapPlain();
    const plain = rig.hwpt(rig.ioas, { flags });
    this.#hwpts = [...this.#nested, ...this.#nested, plain, plain, parent];
    for (const table of [PT, OTHER_PT])
      for (let i = 0; i < LEAVES; i++) rig.set(table, i, this.#data());
    rig.set(OTHER_PD, 1, OTHER_PT);
    sim.spawn('guest', this.#edits());
  }

  get parent(): number {
    return this.#hwpts.at(-1) ?? 0;
  }

  step(): void {
    const { rig } = this;
    for (let i = 0; i < 3; i++) {
      rig.fn.dma[this.#prng.below(2) ? 'read' : 'write'](this.#address(), new Uint8Array(8));
    }
    switch (this.#prng.below(10)) {
      case 0:
        this.#edit();
        break;
      case 1:
      case 2:
        this.#invalidate();
        break;
      case 3:
        this.#changeBelow();
        break;
      case 4:
        if (this.#prng.below(2) === 0) this.#attach(this.#pick(this.#pasids));
        break;
      default: {
        if (!rig.fn.ats) break;
        const command = this.#pick([READ, WRITE, CACHED_READ, CACHED_WRITE, CACHED_READ, FORGET]);
        rig.start(command, this.#address(), this.#pick(this.#pasids), this.#slot++ % 16);
      }
    }
  }

  #pick<T>(items: readonly T[]): T {
    return this.#prng.pick(items);
  }

  #data(): number {
    return 8 + this.#prng.below(8);
  }

  #address(): bigint {
    const page = BigInt(this.#prng.below(LEAVES)) * PAGE;
    return this.#prng.below(4) === 0 ? ADDRESS + IN_LARGE + page : ADDRESS + page;
  }

  /** The guest's processor goes on beside everything else. */
  *#edits(): Body {
    for (let i = 0; i < STEPS; i++) {
      if (this.#prng.below(8) === 0) this.#edit();
      yield 'the guest goes on';
    }
  }

  #edit(): void {
    const { rig } = this;
    const bits = this.#prng.below(6) === 0 ? 0n : guest.WRITABLE;
    switch (this.#prng.below(12)) {
      case 0:
        rig.set(this.#pick([PD, OTHER_PD]), 1, this.#pick([PT, OTHER_PT]), bits);
        break;
      case 1:
        rig.set(PD, 1, FIRST_PAGE_OF_LARGE, bits | guest.LARGE);
        break;
      case 2:
        rig.set(PDPT, 0, this.#pick([PD, PD, OTHER_PD, OTHER_PD, undefined]));
        break;
      default:
        rig.set(
          this.#pick([PT, OTHER_PT]),
          this.#prng.below(LEAVES),
          this.#pick([this.#data(), this.#data(), this.#data(), undefined]),
          bits,
        );
    }
  }

  #invalidate(): void {
    const one = (): guest.Asked => {
      const what = this.#prng.below(6);
      const leavesOnly = this.#prng.below(3) === 0;
      if (what === 0) return { leavesOnly };
      const pages = BigInt(1 + this.#prng.below(LEAVES));
      return { address: this.#address(), pages: what === 1 ? 512n : pages, leavesOnly };
    };
    const asked = Array.from({ length: 1 + this.#prng.below(3) }, one);
    this.rig.invalidate(this.#pick(this.#nested), ...asked);
  }

  #mapPlain(): void {
    const { client, ioas } = this.rig;
    client.call('IOMMU_IOAS_MAP', {
      ...{ flags: 7, ioas_id: ioas, iova: ADDRESS, length: BigInt(LEAVES) * PAGE },
      user_va: MEMORY + BigInt(this.#prng.below(32)) * PAGE,
    });
  }

  /** A page of the guest's goes from the second stage, moves, and comes back; or writes are recorded, or not. */
  #changeBelow(): void {
    const { rig } = this;
    const track = (on: number): void => {
      this.#tracks = on;
      rig.client.call('IOMMU_HWPT_SET_DIRTY_TRACKING', { hwpt_id: this.parent, flags: on });
    };
    const what = this.#prng.below(6);
    if (what === 0) track(1 - this.#tracks);
    else if (what === 1 && this.#tracks) {
      rig.client.call('IOMMU_HWPT_GET_DIRTY_BITMAP', {
        ...{ hwpt_id: this.parent, iova: guest.GUEST, length: 64n * PAGE },
        ...{ page_size: PAGE, data: 0x5000_2000n },
      });
    } else if (what === 2) {
      const range = { iova: ADDRESS, length: BigInt(LEAVES) * PAGE };
      rig.client.call('IOMMU_IOAS_UNMAP', { ioas_id: rig.ioas, ...range });
      this.#mapPlain();
    } else {
      const [gone] = this.#unmapped;
      const page = gone ?? this.#pick([PML4, PDPT, PD, PT, OTHER_PT, this.#data(), this.#data()]);
      if (this.#unmapped.delete(page)) {
        if (this.#prng.below(2)) rig.movePage(page);
        rig.mapPage(page);
      } else {
        rig.unmapPage(page);
        this.#unmapped.add(page);
      }
    }
  }

  #attach(pasid: number): void {
    const { bound, client } = this.rig;
    const before = this.#attached.get(pasid);
    const hwpt = this.#pick(this.#hwpts);
    if (before === undefined) attachDevice(bound, pasid, hwpt);
    else if (this.#prng.below(4) > 0) replaceDevice(bound, pasid, hwpt);
    else {
      // A device without anything of its own has nothing at its PASIDs.
      for (const one of pasid === NO_PASID ? [...this.#attached.keys()].toReversed() : [pasid]) {
        detachDevice(client.file.context, bound, one);
        this.#attached.delete(one);
      }
      return;
    }
    this.#attached.set(pasid, hwpt);
  }

  start(): void {
    for (const pasid of this.#pasids) {
      attachDevice(this.rig.bound, pasid, this.#nested[0] ?? 0);
      this.#attached.set(pasid, this.#nested[0] ?? 0);
    }
  }
}

/** What is told of one seed, its number first. */
function play(preset: string, seed: number): string[] {
  const found: string[] = [];
  const random = new RandomGuest(preset, seed, ({ text }) => found.push(`seed ${seed}: ${text}`));
  random.start();
  for (let step = 0; step < STEPS; step++) random.step();
  random.rig.machine.iommufd.sim.settle();
  return found;
}

const SEEDS = Array.from({ length: 20 }, (_, i) => i + 1);

describe.each(['vtd', 'vtd-page-faults'])('at random, on the machine %s', (name) => {
  it('nobody is blamed for what guest, client and device do', () => {
    expect(SEEDS.flatMap((seed) => play(name, seed))).toEqual([]);
  });

  it('each flush of a table that is taken out shows sooner or later', () => {
    places.seen.clear();
    play(name, 1);
    const flushes = [...places.seen.keys()].filter((place) => /cache_tags|device_info/.test(place));
    expect(flushes.length).toBeGreaterThan(2);
    const missed = flushes.filter((place) => {
      places.lost = place;
      return !SEEDS.some((seed) => play(name, seed).length > 0);
    });
    places.lost = '';
    expect(missed).toEqual([]);
  });
});
