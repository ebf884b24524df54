// SPDX-License-Identifier: Apache-2.0
import { _IOC_NR } from '../abi/ioctl.ts';
import { IOMMUFD_CMD_BASE } from '../abi/iommufd_cmd.ts';
import type { StructType } from '../abi/struct.ts';
import { ErrnoError } from '../base/errno.ts';
import type {
  CallRecord,
  DeviceFile,
  IoctlResult,
  MmapRequest,
  SharedBytes,
} from '../kernel/file.ts';
import type { Task } from '../kernel/task.ts';
import type { Mm } from '../memory/mm.ts';
import { Call, copyFromUser } from './call.ts';
import type { Context } from './context.ts';
import { type IoctlOp, ioctlOps, vfioOps } from './ioctls.ts';
import { hex } from './iova.ts';

/** IOMMU_TEST_CMD is the last number that iommufd answers itself; all others may be VFIO's. */
const LAST_NR = IOMMUFD_CMD_BASE + 32;
const vfioByNumber = new Map(vfioOps.map((op) => [op.number, op]));

/** The structure of the call under way. One serves all: a call never begins inside another. */
const buffer = new Uint8Array(Math.max(...ioctlOps.map((op) => op.type.size)));
const view = new DataView(buffer.buffer);
/** What each number means, and how its structure is seen in the buffer. */
const byNumber = new Map(
  ioctlOps.map((op) => {
    const { size } = op.type;
    const accessor = op.type.on(view) as never;
    return [op.number, { op, size, end: BigInt(size), accessor, bytes: buffer.subarray(0, size) }];
  }),
);
type Known = typeof byNumber extends Map<number, infer T> ? T : never;
/** The first word: the size that the client states. */
const sizeWord = buffer.subarray(0, 4);

/** An open /dev/iommu. Source: iommufd_fops_ioctl() of main.c. */
export class IommufdFile implements DeviceFile {
  readonly name: string;
  recording = false;
  refusal = '';
  readonly context: Context;

  constructor(context: Context, name: string) {
    this.context = context;
    this.name = name;
  }

  ioctl(task: Task, cmd: number, arg: bigint): IoctlResult {
    const record: Partial<Recorded> | undefined = this.recording ? {} : undefined;
    let value = 0;
    let why = '';
    try {
      const nr = _IOC_NR(cmd);
      value =
        nr < IOMMUFD_CMD_BASE || nr > LAST_NR
          ? this.vfioIoctl(task, cmd, arg, record)
          : this.iommufdIoctl(task, cmd, arg, record);
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
      value = -error.errno;
      why = error.message;
    }
    return { value, why, call: record && this.aside(() => callRecord(record, task.mm, arg)) };
  }

  /** mmap(2) of pages that an object shares: 0, or `-errno`. */
  mmap(_task: Task, request: MmapRequest): number {
    try {
      this.context.mmaps.check(request).granted();
      return 0;
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
      this.refusal = error.message;
      return -error.errno;
    }
  }

  set shared(bytes: SharedBytes) {
    this.context.mmaps.bytes = bytes;
  }

  get shared(): SharedBytes {
    return this.context.mmaps.bytes;
  }

  release(): void {
    this.context.put();
  }

  /** For what is read only to be shown: no failure is injected there. */
  private aside<T>(body: () => T): T {
    return this.context.iommufd.faults.aside(body);
  }

  private iommufdIoctl(task: Task, cmd: number, arg: bigint, record?: Partial<Recorded>): number {
    const { mm } = task;
    const known = byNumber.get(cmd);
    if (!known) {
      copyFromUser(mm, arg, sizeWord);
      throw noSuchIoctl(cmd);
    }
    const { op, accessor, bytes } = known;
    if (record) this.aside(() => noteStruct(record, op, mm, arg));
    const userSize = readStruct(mm, arg, known);
    return run(op, new Call(this.context, task, accessor, bytes, arg, userSize));
  }

  private vfioIoctl(task: Task, cmd: number, arg: bigint, record?: Partial<Recorded>): number {
    const op = vfioByNumber.get(cmd);
    if (!op) throw noSuchIoctl(cmd);
    if (record) this.aside(() => noteStruct(record, op, task.mm, arg));
    return op.execute(this.context, task, arg);
  }
}

const noSuchIoctl = (cmd: number): ErrnoError =>
  new ErrnoError('ENOTTY', `/dev/iommu has no ioctl 0x${cmd.toString(16)}`);

/** Runs a call and settles the object that it made: visible on success, gone without a trace on failure. */
function run(op: IoctlOp, call: Call<never>): number {
  try {
    const result = op.execute(call) ?? 0;
    if (call.newObject) call.context.objects.finalize(call.newObject);
    return result;
  } catch (error) {
    if (call.newObject) {
      call.context.objects.abort(call.newObject);
      call.newObject.destroy();
    }
    throw error;
  }
}

/**
 * Reads a structure that begins with its size into the buffer: what an older client does not have reads as 0, what a newer one
 * has beyond ours must be 0. The size word comes before everything else: even an unknown number with a bad pointer is EFAULT.
 * @returns the size that the client states
 */
function readStruct(mm: Mm, arg: bigint, { op, size, end, bytes }: Known): number {
  // One copy serves nearly all calls; only a structure at the very end of a mapping needs the careful way.
  const whole = mm.copyIn(arg, bytes);
  if (!whole) copyFromUser(mm, arg, sizeWord);
  const userSize = view.getUint32(0, true);
  if (userSize < op.minSize) {
    throw new ErrnoError(
      'EINVAL',
      `size ${userSize} is less than ${op.minSize}, the first version of ${op.type.cName}`,
    );
  }
  if (userSize > size) checkZeroTail(mm, arg + end, userSize - size, op.type);
  const known = Math.min(userSize, size);
  if (!whole) copyFromUser(mm, arg, buffer.subarray(0, known));
  if (known < size) bytes.fill(0, known);
  return userSize;
}

const TAIL_CHUNK = 4096;
/** Where tails are read to. One serves all, as with the structures. */
const tail = new Uint8Array(TAIL_CHUNK);
/** Its first bytes, by their number: most tails are short, and a view costs as much as the rest of the check. */
const shortTails = Array.from({ length: 65 }, (_, length) => tail.subarray(0, length));

/** The index of the first byte that is not 0, or -1. A plain loop: findIndex calls back for each byte, 1 us for a short tail. */
function firstNonZero(bytes: Uint8Array): number {
  for (let i = 0; i < bytes.length; i++) if (bytes[i] !== 0) return i;
  return -1;
}

/** Bytes of a newer structure that we do not know must be 0. Throws E2BIG, EFAULT. */
export function checkZeroTail(
  mm: Mm,
  address: bigint,
  length: number,
  type: StructType<unknown>,
): void {
  const short = shortTails[length];
  if (short !== undefined && mm.copyIn(address, short)) return checkZero(short, address, type);
  for (let done = 0; done < length;) {
    const at = address + BigInt(done);
    const toPageEnd = TAIL_CHUNK - Number(at & BigInt(TAIL_CHUNK - 1));
    const part = tail.subarray(0, Math.min(length - done, toPageEnd));
    copyFromUser(mm, at, part);
    checkZero(part, at, type);
    done += part.length;
  }
}

function checkZero(bytes: Uint8Array, address: bigint, type: StructType<unknown>): void {
  const bad = firstNonZero(bytes);
  if (bad < 0) return;
  throw new ErrnoError(
    'E2BIG',
    `the byte at ${hex(address + BigInt(bad))}, beyond the ${type.size} bytes of ${type.cName}, is not 0`,
  );
}

interface Recorded {
  name: string | undefined;
  type: StructType<unknown>;
  before: Uint8Array;
  size: number;
}

/** Reads the client's structure for the record, as far as its first word says: also one whose size will be refused. */
function noteStruct(
  record: Partial<Recorded>,
  op: { readonly name: string; readonly type: StructType<unknown> | undefined },
  mm: Mm,
  arg: bigint,
): void {
  record.name = op.name;
  const word = new DataView(new ArrayBuffer(4));
  if (!op.type || !mm.copyIn(arg, new Uint8Array(word.buffer))) return;
  const size = Math.min(Math.max(word.getUint32(0, true), 4), op.type.size);
  const before = new Uint8Array(op.type.size);
  if (!mm.copyIn(arg, before.subarray(0, size))) return;
  record.type = op.type;
  record.size = size;
  record.before = before;
}

/** What the client sees after the call: read back from its memory, so that it shows what really was written. */
function callRecord(record: Partial<Recorded>, mm: Mm, arg: bigint): CallRecord {
  const { name, type, size = 0, before = new Uint8Array() } = record;
  const after = before.slice();
  const readable = mm.copyIn(arg, after.subarray(0, size));
  if (!readable) return { name, type, before, after: before };
  return { name, type, before, after, arrays: type ? readArrays(type, after, mm) : new Map() };
}

/** A longer array is recorded in part. */
const MOST_ELEMENTS = 16;

function readArrays(type: StructType<unknown>, bytes: Uint8Array, mm: Mm): Map<string, Uint8Array> {
  const values = type.on(new DataView(bytes.buffer)) as Readonly<Record<string, number | bigint>>;
  const arrays = new Map<string, Uint8Array>();
  for (const { name, type: field } of type.fields) {
    const to = field.show.as === 'pointer' ? field.show.to : undefined;
    if (!to) continue;
    const count = Math.min(Number(values[to.count]), MOST_ELEMENTS);
    const elements = new Uint8Array(count * to.element.size);
    if (mm.copyIn(BigInt(values[name] ?? 0), elements)) arrays.set(name, elements);
  }
  return arrays;
}
