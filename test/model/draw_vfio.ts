// SPDX-License-Identifier: Apache-2.0
/** Draws the steps of VFIO's container. */
import { PAGE_N } from './draw.ts';
import { DrawGuest } from './draw_guest.ts';
import { LAST } from './space.ts';
import type { VfioStep } from './vfio.ts';

export class DrawVfio extends DrawGuest {
  protected makeVfio(op: VfioStep['op']): VfioStep {
    switch (op) {
      case 'vfio_ioas': {
        const isSet = this.world.vfioIoas !== undefined;
        const action = isSet ? (this.pick([0, 0, 0, 1, 2]) ?? 0) : 1;
        return { op, action: this.chance(20) ? this.below(4) : action, ioas: this.ref() };
      }
      case 'vfio_api':
        return { op };
      case 'vfio_extension':
        return { op, extension: this.below(12) };
      case 'vfio_set':
        return { op, type: this.chance(8) ? this.below(10) : (this.pick([1, 1, 3]) ?? 1) };
      case 'vfio_info':
        return { op, argsz: this.pick([0, 15, 16, 20, 24, 36, 40, 56, 71, 72, 88, 200]) ?? 200 };
      case 'vfio_map': {
        const flags = this.chance(20) ? this.below(8) : (this.pick([3, 3, 3, 1, 2]) ?? 3);
        const argsz = this.chance(20) ? 31 : 32;
        const [va, length] = [this.va(), this.bytes()];
        return { op, by: this.by(), argsz, flags, va, length, iova: this.iova() };
      }
      case 'vfio_unmap': {
        const argsz = this.chance(20) ? 23 : 24;
        if (this.chance(12)) {
          const odd = this.chance(3) ? PAGE_N : 0n;
          return { op, argsz, flags: 2, iova: 0n, length: odd };
        }
        const flags = this.chance(20) ? 1 : 0;
        const spaces = this.world.of('IOAS');
        const { vfioIoas } = this.world;
        const at = vfioIoas ? spaces.indexOf(vfioIoas) : -1;
        const { iova, length } = this.range(at >= 0 ? at : this.ref(), 30);
        const bad = this.chance(40) ? { iova: LAST, length: PAGE_N } : { iova, length };
        return { op, argsz, flags, ...bad };
      }
    }
  }
}
