// SPDX-License-Identifier: Apache-2.0
/**
 * read, write and their relatives on our files. A file that has `pread` and `pwrite` answers them from there, at a byte of its
 * own; one that is a queue has `read` and `write`, and no bytes with a place; others answer EINVAL, as Linux does where a driver can
 * neither be read nor written. Linux (fs/read_write.c) calls such a driver once for each element of a vector, and stops at the first
 * that comes short.
 */
import { ADDRESSES_END } from '../src/memory/mm.ts';
import type { OldSyscallName, SyscallName } from './arch.ts';
import type { CallHost, Handlers } from './call_host.ts';
import { type CallerFile, callerFile } from './caller_file.ts';
import type { HostFile } from './open_files.ts';
import { O_RDONLY, O_WRONLY } from './uapi.ts';

const EBADF = 9;
const EFAULT = 14;
const EINVAL = 22;
const ESPIPE = 29;
const EOPNOTSUPP = 95;
/** One call of the engine moves at most this much; a longer one goes on with the next piece. */
const PIECE_BYTES = 1 << 16;
/** Linux moves no more than this in one call. */
const MAX_RW_COUNT = 0x7ffff000;
const UIO_MAXIOV = 1024;
const IOVEC_BYTES = 16;
const RWF_HIPRI = 1;
/** Bytes that are kept for an observer. */
const SHOWN_BYTES = 256;
/** preadv2 and pwritev2: at the file's position. */
const AT_POSITION = -1n;

const isOfClients = (address: bigint, bytes: bigint): boolean => address + bytes <= ADDRESSES_END;

/** Where a call takes and leaves bytes in the client: address and length of each element. */
type Vector = readonly (readonly [address: bigint, bytes: number])[];

export function dataCalls(host: CallHost): Handlers {
  const { notification: call, transfer, arch, observer } = host;
  const handlers: Handlers = [];
  const buffer = new Uint8Array(PIECE_BYTES);
  const shown = new Uint8Array(SHOWN_BYTES);
  let shownBytes = 0;
  /** The engine said no, and why. */
  let refused = false;

  const on = (
    name: SyscallName | OldSyscallName,
    isWrite: boolean,
    answer: (found: CallerFile, isWrite: boolean) => number,
  ): void => {
    const nr = (arch.calls as Readonly<Partial<Record<string, number>>>)[name];
    if (nr === undefined) return;
    handlers[nr] = () => {
      const fd = call.int(0);
      const found = callerFile(host, fd);
      if (found === 'closed') return void call.reply(-EBADF);
      if (typeof found === 'string') return void call.resume();
      const isInjected = host.injection.begin(found.task);
      if (observer.accessed === undefined && observer.other === undefined) {
        const result = answer(found, isWrite);
        if (isInjected) host.injection.end(found.task, result);
        return void call.reply(result);
      }
      begin(found);
      const start = performance.now();
      const result = answer(found, isWrite);
      const micros = (performance.now() - start) * 1000;
      if (isInjected) host.injection.end(found.task, result);
      tell(name, isWrite, fd, found, result, micros);
      call.reply(result);
    };
  };

  /** What is told of the call under way. */
  let offset = 0n;
  let count = 0;
  const begin = ({ file }: CallerFile): void => {
    offset = file.position;
    count = call.word(2);
    shownBytes = 0;
    refused = false;
  };
  const tell = (
    name: string,
    write: boolean,
    fd: number,
    { task, file: { file } }: CallerFile,
    result: number,
    micros: number,
  ): void => {
    if ((file.pread ?? file.pwrite ?? file.read ?? file.write) === undefined) {
      observer.other?.(task.pid, `${name}(${fd}<${file.name}>) = ${result}`);
      return;
    }
    const why = result < 0 && refused ? (file.refusal ?? '') : '';
    const bytes = shown.subarray(0, shownBytes);
    observer.accessed?.(
      task.pid,
      fd,
      file,
      { name, write, offset, count, bytes, result, why },
      micros,
    );
  };
  const keep = (bytes: Uint8Array): void => {
    const part = bytes.subarray(0, SHOWN_BYTES - shownBytes);
    shown.set(part, shownBytes);
    shownBytes += part.length;
  };

  /** Moves the bytes of one element; how many, or `-errno`. */
  const move = (
    { task, file: { file } }: CallerFile,
    isWrite: boolean,
    at: bigint,
    address: bigint,
    length: number,
  ): number => {
    let done = 0;
    do {
      const piece = buffer.subarray(0, Math.min(length - done, PIECE_BYTES));
      const from = address + BigInt(done);
      if (isWrite && !transfer.read(call.tid, from, piece)) return -EFAULT;
      const position = at + BigInt(done);
      const got = isWrite
        ? (file.pwrite?.(task, position, piece) ?? -EINVAL)
        : (file.pread?.(task, position, piece) ?? -EINVAL);
      // An error after the first piece ends the call with what was moved.
      refused = got < 0;
      if (got < 0) return done > 0 ? done : got;
      const moved = piece.subarray(0, got);
      if (!isWrite && got > 0 && !transfer.write(call.tid, from, moved)) return -EFAULT;
      keep(moved);
      done += got;
      if (got < piece.length) break;
    } while (done < length);
    return done;
  };

  /** The same for a queue, which moves them itself. */
  const moveQueued = (
    { task, file: { file } }: CallerFile,
    isWrite: boolean,
    address: bigint,
    length: number,
  ): number => {
    const show = (bytes: number): void => {
      const part = buffer.subarray(0, Math.min(bytes, SHOWN_BYTES));
      if (observer.accessed !== undefined && transfer.read(call.tid, address, part)) keep(part);
    };
    if (isWrite) show(length);
    const got =
      (isWrite ? file.write?.(task, address, length) : file.read?.(task, address, length)) ??
      -EINVAL;
    if (!isWrite && got > 0) show(got);
    refused = got < 0;
    return got;
  };

  const mayNot = (file: HostFile, isWrite: boolean): boolean =>
    file.access === (isWrite ? O_RDONLY : O_WRONLY);

  /** All elements at `at`, or at the file's position, which then moves on. */
  const transferAll = (
    found: CallerFile,
    isWrite: boolean,
    vector: () => Vector | number,
    at: bigint | undefined,
  ): number => {
    const { file } = found;
    if (at !== undefined && at < 0n) return -EINVAL;
    if (mayNot(file, isWrite)) return -EBADF;
    const isQueue = file.waits !== undefined;
    if (isQueue && at !== undefined) return -ESPIPE;
    if (!isQueue && (isWrite ? file.file.pwrite : file.file.pread) === undefined) return -EINVAL;
    const elements = vector();
    if (typeof elements === 'number') return elements;
    offset = at ?? file.position;
    count = elements.reduce((sum, [, bytes]) => sum + bytes, 0);
    let done = 0;
    for (const [address, bytes] of elements) {
      const got = isQueue
        ? moveQueued(found, isWrite, address, bytes)
        : move(found, isWrite, offset + BigInt(done), address, bytes);
      if (got < 0) {
        if (done === 0) return got;
        break;
      }
      done += got;
      if (got < bytes) break;
    }
    if (at === undefined && !isQueue) file.position += BigInt(done);
    return done;
  };

  const one = (): Vector | number => {
    const [address, bytes] = [call.big(1), call.big(2)];
    return isOfClients(address, bytes)
      ? [[address, Math.min(Number(bytes), MAX_RW_COUNT)]]
      : -EFAULT;
  };
  const several = (): Vector | number => {
    const elements = call.word(2);
    if (elements > UIO_MAXIOV) return -EINVAL;
    const bytes = new Uint8Array(elements * IOVEC_BYTES);
    if (!transfer.read(call.tid, call.big(1), bytes)) return -EFAULT;
    const view = new DataView(bytes.buffer);
    const vector: [bigint, number][] = [];
    let room = MAX_RW_COUNT;
    for (let index = 0; index < elements; index += 1) {
      const length = view.getBigInt64(index * IOVEC_BYTES + 8, true);
      const base = view.getBigUint64(index * IOVEC_BYTES, true);
      if (length < 0n) return -EINVAL;
      // Linux cuts a single element first, and several as it goes.
      const limited = elements === 1 && length > MAX_RW_COUNT ? BigInt(MAX_RW_COUNT) : length;
      if (!isOfClients(base, limited)) return -EFAULT;
      const part = length > BigInt(room) ? room : Number(length);
      room -= part;
      if (part > 0) vector.push([base, part]);
    }
    return vector;
  };
  const offsetAt = (index: number): bigint => BigInt.asIntN(64, call.big(index));

  for (const [isWrite, plain, positioned, vector, positionedVector, withFlags] of [
    [false, 'read', 'pread64', 'readv', 'preadv', 'preadv2'],
    [true, 'write', 'pwrite64', 'writev', 'pwritev', 'pwritev2'],
  ] as const) {
    on(plain, isWrite, (found, write) => transferAll(found, write, one, undefined));
    on(positioned, isWrite, (found, write) => transferAll(found, write, one, offsetAt(3)));
    on(vector, isWrite, (found, write) => transferAll(found, write, several, undefined));
    on(positionedVector, isWrite, (found, write) =>
      transferAll(found, write, several, offsetAt(3)),
    );
    on(withFlags, isWrite, (found, write) => {
      const at = offsetAt(3);
      if (call.int(5) & ~RWF_HIPRI) return -EOPNOTSUPP;
      return transferAll(found, write, several, at === AT_POSITION ? undefined : at);
    });
  }
  return handlers;
}
