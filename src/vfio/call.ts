// SPDX-License-Identifier: Apache-2.0
import type { StructType } from '../abi/struct.ts';
import { copyFromUser, copyToUser } from '../iommufd/call.ts';
import type { Task } from '../kernel/task.ts';
import type { VfioDevice } from './device.ts';

/** One ioctl on a device under way: who calls, what was asked, and how to answer. */
export class VfioCall<T> {
  readonly device: VfioDevice;
  readonly task: Task;
  /** The raw third argument: where the structure is. */
  readonly arg: bigint;
  /** The structure as far as it was read; writing prepares the answer. */
  readonly cmd: T;
  readonly #bytes: Uint8Array;

  constructor(device: VfioDevice, task: Task, arg: bigint, type: StructType<unknown>) {
    this.device = device;
    this.task = task;
    this.arg = arg;
    this.#bytes = new Uint8Array(type.size);
    this.cmd = type.on(new DataView(this.#bytes.buffer)) as T;
  }

  /** Reads bytes `from` to `to` of the client's structure. Throws EFAULT. */
  fetch(from: number, to: number): void {
    copyFromUser(this.task.mm, this.arg + BigInt(from), this.#bytes.subarray(from, to));
  }

  /** Writes bytes `from` to `to` of the structure back. Throws EFAULT. */
  respond(from: number, to: number): void {
    copyToUser(this.task.mm, this.arg + BigInt(from), this.#bytes.subarray(from, to));
  }

  /** Reads what follows the structure in the client's memory. Throws EFAULT. */
  tail(offset: number, bytes: number): Uint8Array {
    const data = new Uint8Array(bytes);
    copyFromUser(this.task.mm, this.arg + BigInt(offset), data);
    return data;
  }
}
