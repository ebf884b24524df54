// SPDX-License-Identifier: Apache-2.0
import { ErrnoError } from '../base/errno.ts';
import type { CallRecord, DeviceFile, IoctlResult } from '../kernel/file.ts';
import type { Task } from '../kernel/task.ts';
import type { VfioGroup } from './group.ts';
import { type GroupOp, groupOps } from './group_ioctls.ts';

const byNumber = new Map(groupOps.map((op) => [op.number, op]));

/** An open `/dev/vfio/N`: one at a time. */
export class VfioGroupFile implements DeviceFile {
  recording = false;
  readonly group: VfioGroup;

  constructor(group: VfioGroup) {
    this.group = group;
  }

  get name(): string {
    return this.group.path;
  }

  ioctl(task: Task, cmd: number, arg: bigint): IoctlResult {
    const op = byNumber.get(cmd);
    const { faults } = this.group;
    const note = (): CallRecord | undefined =>
      this.recording ? faults.aside(() => op?.record(task, arg)) : undefined;
    const before = note();
    let value = 0;
    let why = '';
    try {
      value = this.#run(op, task, cmd, arg);
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
      value = -error.errno;
      why = error.message;
    }
    const after = note();
    const call = before && after ? { ...before, after: after.after } : undefined;
    return { value, why, call };
  }

  #run(op: GroupOp | undefined, task: Task, cmd: number, arg: bigint): number {
    if (!op) throw new ErrnoError('ENOTTY', `a VFIO group has no ioctl 0x${cmd.toString(16)}`);
    return op.execute(this, task, arg);
  }

  release(): void {
    this.group.closed();
  }
}
