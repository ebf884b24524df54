// SPDX-License-Identifier: Apache-2.0
import type { StructType } from '../abi/struct.ts';
import type { CallRecord } from '../kernel/file.ts';
import type { Mm } from '../memory/mm.ts';
import type { DeviceOp } from './ioctls.ts';

/**
 * The client's structure as it was, for the record: as far as its argsz says, at most what we know of it. Undefined where it can
 * not be read, or there is none.
 */
export function noteStruct({ type }: DeviceOp, mm: Mm, arg: bigint): Uint8Array | undefined {
  const word = new DataView(new ArrayBuffer(4));
  if (!type || !mm.copyIn(arg, new Uint8Array(word.buffer))) return undefined;
  const bytes = new Uint8Array(Math.min(Math.max(word.getUint32(0, true), 4), type.size));
  return mm.copyIn(arg, bytes) ? bytes : undefined;
}

/** The record of a call: what the client sees after it is read back from its memory, so that it shows what was really written. */
export function callRecord(
  op: DeviceOp | undefined,
  before: Uint8Array | undefined,
  mm: Mm,
  arg: bigint,
): CallRecord {
  const { name, type } = op ?? { name: undefined, type: undefined };
  if (!type || !before)
    return { name, type: undefined, before: new Uint8Array(), after: new Uint8Array() };
  const whole = new Uint8Array(type.size);
  whole.set(before);
  const after = whole.slice();
  const readable = mm.copyIn(arg, after.subarray(0, before.length));
  const arrays = tailOf(type, whole, mm, arg);
  return { name, type, before: whole, after: readable ? after : whole, arrays };
}

/** A longer tail is recorded in part. */
const MOST_BYTES = 64;

/** What follows the structure as its flexible array, by the array's name. */
function tailOf(
  type: StructType<unknown>,
  bytes: Uint8Array,
  mm: Mm,
  arg: bigint,
): Map<string, Uint8Array> {
  const last = type.fields.at(-1);
  if (last?.type.size !== 0) return new Map();
  const argsz = new DataView(bytes.buffer).getUint32(0, true);
  const tail = new Uint8Array(Math.max(0, Math.min(argsz - last.offset, MOST_BYTES)));
  return new Map(mm.copyIn(arg + BigInt(last.offset), tail) ? [[last.name, tail]] : []);
}
