// SPDX-License-Identifier: Apache-2.0
/** Draws the steps of virtual IOMMUs. */
import { PAGE_N } from './draw.ts';
import { DrawDirty } from './draw_dirty.ts';
import type { GuestStep } from './perform_guest.ts';

const SELFTEST = 0xdead_beef;
const EVENTS = 0xbeef_beef;

export class DrawGuest extends DrawDirty {
  /** Seldom another type than the test driver's. */
  private type(usual = SELFTEST): number {
    return this.chance(20) ? (this.pick([0, 1, 2]) ?? 0) : usual;
  }

  /** A device that a guest has, mostly. */
  private guestDevice(): number {
    const devices = this.world.of('DEVICE');
    const chosen = this.pick(devices.filter(({ viommu }) => viommu !== undefined));
    return chosen && !this.chance(8) ? devices.indexOf(chosen) : this.ref();
  }

  protected makeGuest(op: GuestStep['op']): GuestStep {
    const { world } = this;
    switch (op) {
      case 'viommu_alloc': {
        const tables = world.of('HWPT_PAGING');
        const chosen = this.chance(8) ? undefined : this.pick(tables.filter(({ nests }) => nests));
        const hwpt = chosen ? tables.indexOf(chosen) : this.ref();
        const length = this.chance(12)
          ? (this.pick([4, 7, 32]) ?? 4)
          : this.pick([0, 8, 16, 24, 24]);
        const word = this.below(1000);
        return { op, type: this.type(), device: this.ref(), hwpt, length: length ?? 0, word };
      }
      case 'vdevice_alloc': {
        const devices = world.of('DEVICE');
        const free = this.pick(devices.filter(({ vdevice }) => !vdevice));
        const device = free && !this.chance(5) ? devices.indexOf(free) : this.ref();
        const large = this.pick([1n << 32n, (1n << 32n) + 5n, (1n << 64n) - 1n]) ?? 0n;
        const virtualId = this.chance(15) ? large : BigInt(this.below(6));
        return { op, viommu: this.ref(), device, virtualId };
      }
      case 'veventq_alloc': {
        const depth = this.chance(20)
          ? (this.pick([0, 2 ** 19, 2 ** 19 + 1]) ?? 0)
          : 1 + this.below(4);
        return { op, by: this.by(), viommu: this.ref(), type: this.type(EVENTS), depth };
      }
      case 'trigger_vevent':
        return { op, device: this.guestDevice() };
      case 'invalidate_devices': {
        const viommus = world.of('VIOMMU');
        const viommu = this.pick(viommus.filter(({ devices }) => devices.size > 0));
        const names = [...(viommu?.devices.keys() ?? [])]
          .filter((id) => id < 2n ** 32n)
          .map(Number);
        const entry = (): [number, number, number] => [
          this.chance(8) ? this.below(4) : 0,
          this.chance(8) ? this.below(6) : (this.pick(names) ?? 0),
          this.below(this.chance(8) ? 6 : 4),
        ];
        const entryBytes = this.chance(5) ? (this.pick([4, 8, 16, 64]) ?? 8) : 12;
        return {
          op,
          viommu: viommu ? viommus.indexOf(viommu) : this.ref(),
          otherType: this.chance(20),
          entryBytes,
          tail: this.chance(4),
          entries: Array.from({ length: this.below(4) }, entry),
        };
      }
      case 'check_cache':
        return {
          op,
          device: this.ref(),
          index: this.below(4),
          value: this.pick([0, 0xbaddad]) ?? 0,
        };
      case 'hw_queue_alloc': {
        const viommus = world.of('VIOMMU');
        const viommu = this.pick(viommus);
        const area = this.pick(viommu?.parent.space.areas ?? []);
        const bytes = area ? Number(area.last - area.start) + 1 : 4096;
        const into = BigInt(this.below(Math.min(bytes, 8192)));
        const iova =
          area && !this.chance(10) ? area.start + (this.chance(2) ? 0n : into) : this.iova();
        const length = this.chance(10) ? this.bytes() : BigInt(1 + this.below(2 * 4096));
        const next = viommu?.hwQueues[0] ? 1 : 0;
        const index = this.chance(8) ? this.below(4) : next;
        const ref = viommu ? viommus.indexOf(viommu) : this.ref();
        return { op, viommu: ref, type: this.type(), index, iova, length };
      }
      case 'shared_map': {
        const owner = this.pick(world.of('VIOMMU').filter(({ offset }) => offset !== undefined));
        const exact = owner?.offset ?? PAGE_N;
        const offset = this.chance(10) ? exact + PAGE_N : exact;
        const pages = this.chance(10) ? 1 + this.below(3) : 2;
        const executable = this.chance(15);
        return { op, by: this.by(), offset, pages, shared: !this.chance(15), executable };
      }
      case 'shared_unmap':
        return { op, map: this.below(8) };
    }
  }
}
