// SPDX-License-Identifier: Apache-2.0
import type { DeviceFile } from '../src/kernel/file.ts';
import type { Task } from '../src/kernel/task.ts';

/** A device node that clients can open. */
export interface Device {
  /** Absolute: `/dev/iommu`. */
  readonly path: string;
  /** Permission bits; the owner is whoever runs the supervisor, so that no root is needed. */
  readonly mode: number;
  /** Major and minor number; `/dev/iommu` is a misc device (major 10). */
  readonly rdev: { readonly major: number; readonly minor: number };
  /** One open(2). May throw ErrnoError. */
  open(task: Task): DeviceFile;
}
