// SPDX-License-Identifier: Apache-2.0
import {
  IOMMU_TEST_CMD,
  iommu_test_cmd,
  IOMMU_TEST_OP_PASID_DETACH,
} from '../../../src/abi/iommufd_test.ts';
import { ARENA } from './client.ts';
import { requestOf } from './ioctl.ts';
import type { Player } from './player.ts';

const MOST = 256;

interface Entry {
  readonly context: number;
  readonly stdev: number;
  readonly pasid: number;
}

/** PASIDs that are attached: the kernel's test driver needs them detached before a mock device goes. */
export class PasidLedger {
  private entries: Entry[] = [];

  add(context: number, stdev: number, pasid: number): void {
    if (pasid && this.entries.length < MOST) this.entries.push({ context, stdev, pasid });
  }

  remove(context: number, stdev: number, pasid: number): void {
    this.entries = this.entries.filter(
      (entry) => entry.context !== context || entry.stdev !== stdev || entry.pasid !== pasid,
    );
  }

  /** Detaches those of one mock device, or of all of a context; returns how many. */
  detachAll(player: Player, context: number, stdev?: number): number {
    const gone = this.entries.filter(
      (entry) => entry.context === context && (stdev === undefined || entry.stdev === stdev),
    );
    this.entries = this.entries.filter((entry) => !gone.includes(entry));
    for (const entry of gone) {
      const { cmd, bytes } = requestOf(iommu_test_cmd);
      cmd.size = bytes.length;
      cmd.op = IOMMU_TEST_OP_PASID_DETACH;
      cmd.id = entry.stdev;
      cmd.u.pasid_detach.pasid = entry.pasid;
      player.client.arena.set(bytes);
      player.ioctl(IOMMU_TEST_CMD, ARENA);
    }
    return gone.length;
  }
}
