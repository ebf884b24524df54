// SPDX-License-Identifier: Apache-2.0
import { ErrnoError } from '../base/errno.ts';
import type { Task } from '../kernel/task.ts';
import type { Mm } from '../memory/mm.ts';
import type { Context } from './context.ts';
import { hex } from './iova.ts';
import type { IommufdObject } from './objects.ts';

/** One ioctl under way (struct iommufd_ucmd): who calls, what was asked, and how to answer. */
export class Call<T> {
  readonly context: Context;
  readonly task: Task;
  /** The structure in our own buffer: reading gives what the client asked, writing prepares the answer. */
  readonly cmd: T;
  /** Where the client's structure is, and how large the client says it is. */
  readonly address: bigint;
  readonly userSize: number;
  /** An object that the dispatcher finalizes when the call succeeds, and aborts and destroys when it fails. */
  newObject: IommufdObject | undefined = undefined;
  private readonly bytes: Uint8Array;

  constructor(
    context: Context,
    task: Task,
    cmd: T,
    bytes: Uint8Array,
    address: bigint,
    userSize: number,
  ) {
    this.context = context;
    this.task = task;
    this.cmd = cmd;
    this.bytes = bytes;
    this.address = address;
    this.userSize = userSize;
  }

  /** Writes the structure back, as far as the client's own version of it goes. */
  respond(): void {
    const { bytes, userSize } = this;
    const known = userSize < bytes.length ? bytes.subarray(0, userSize) : bytes;
    copyToUser(this.task.mm, this.address, known);
  }

  /** Writes back a part of the structure only. */
  respondPart(offset: number, size: number): void {
    copyToUser(
      this.task.mm,
      this.address + BigInt(offset),
      this.bytes.subarray(offset, offset + size),
    );
  }
}

/** Reads client memory; throws EFAULT. */
export function copyFromUser(mm: Mm, address: bigint, into: Uint8Array): void {
  if (mm.copyIn(address, into)) return;
  throw new ErrnoError(
    'EFAULT',
    `${into.length} bytes at ${hex(address)} of the client can not be read`,
  );
}

/** Writes client memory; throws EFAULT. */
export function copyToUser(mm: Mm, address: bigint, from: Uint8Array): void {
  if (mm.copyOut(address, from)) return;
  throw new ErrnoError(
    'EFAULT',
    `${from.length} bytes at ${hex(address)} of the client can not be written`,
  );
}

/** The rule for reserved fields. */
export function checkReserved(...fields: readonly number[]): void {
  for (let i = 0; i < fields.length; i++) {
    if (fields[i] !== 0) throw new ErrnoError('EOPNOTSUPP', 'a reserved field is not 0');
  }
}

/** The rule for flags that are not known: EOPNOTSUPP. */
export function checkFlags(flags: number, known: number): void {
  const unknown = (flags & ~known) >>> 0;
  if (unknown) throw new ErrnoError('EOPNOTSUPP', `unknown flags 0x${unknown.toString(16)}`);
}
