// SPDX-License-Identifier: Apache-2.0
import type { DeviceFile } from '../src/kernel/file.ts';
import type { Task } from '../src/kernel/task.ts';
import type { FaultPoints } from './fault_injection.ts';
import type { FileTree } from './file_tree.ts';

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

/** Work of the engine that is due at a time rather than by a call. */
export interface Timers {
  /** Milliseconds until `run` has something to do; undefined while nothing is planned. */
  untilNext(): number | undefined;
  run(): void;
}

/** What a machine shows to programs. */
export interface Served {
  readonly devices: readonly Device[];
  /** Files beside the host's: sysfs, and the folders of the device nodes. */
  readonly tree?: FileTree;
  /** Where failures can be injected. */
  readonly faults?: FaultPoints;
  /** Work of the machine's own, beside what clients ask for. */
  readonly timers?: Timers;
  /** What the machine holds, in lines: a failed call leaves them as they were. */
  readonly state?: () => readonly string[];
}
