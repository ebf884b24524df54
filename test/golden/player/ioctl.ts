// SPDX-License-Identifier: Apache-2.0
import type { StructType } from '../../../src/abi/struct.ts';
import { PAGE_SIZE } from '../../../src/memory/mm.ts';
import type { Arguments } from './arguments.ts';
import { ARENA, ARENA_BYTES, ARENA_RO, Place } from './client.ts';

/** A structure to pass to an ioctl, all 0 at first; afterwards it holds the answer. */
export class Request<T> {
  readonly cmd: T;
  readonly bytes: Uint8Array;

  constructor(type: { readonly size: number; on(view: DataView): T }) {
    this.bytes = new Uint8Array(type.size);
    this.cmd = type.on(new DataView(this.bytes.buffer));
  }
}

export const requestOf = <S>(type: StructType<S>): Request<ReturnType<StructType<S>['on']>> =>
  new Request(type);

const CANARY = 0xa5;
const CANARY_BYTES = 64;

/** Where a structure lies in the arena, and what the bytes were before the call. */
export interface Placed {
  readonly address: bigint;
  /** Looks at what the call did to the structure and around it, and takes the answer into the request. */
  after(): { touched: boolean; outside: boolean };
}

/** Puts a structure into the arena as the modifiers `tail`, `sz` and `ptr` say. */
export function place(arena: Uint8Array, args: Arguments, request: Request<unknown>): Placed {
  const { bytes } = request;
  const tail = args.text('tail');
  const ptr = args.text('ptr');
  const total = Math.min(bytes.length + (tail ? Number(tail.slice(1)) : 0), PAGE_SIZE);
  let at = ptr === 'edge' ? ARENA_BYTES - total : 0;
  arena.fill(CANARY, 0, ARENA_BYTES);
  arena.fill(0, at, at + total);
  arena.set(bytes, at);
  if (tail?.startsWith('n')) arena[at + total - 1] = 1;
  const view = new DataView(arena.buffer, arena.byteOffset, ARENA_BYTES);
  view.setUint32(at, args.has('sz') ? args.u32('sz') : total, true);
  let address = ARENA + BigInt(at);
  if (ptr === 'null') address = 0n;
  if (ptr === 'bad') address = Place.XX;
  if (ptr === 'ro') address = ARENA_RO;
  if (ptr === 'cut') {
    const kept = total > 4 ? total - 4 : total;
    arena.copyWithin(ARENA_BYTES - kept, at, at + kept);
    at = ARENA_BYTES - kept;
    address = ARENA + BigInt(at);
  }
  const before = arena.slice(at, at + bytes.length);
  const after = (): { touched: boolean; outside: boolean } => {
    if (ptr === 'null' || ptr === 'bad' || ptr === 'cut') return { touched: false, outside: false };
    const now = arena.subarray(at, at + bytes.length);
    const touched = now.some((byte, i) => byte !== before[i]);
    const end = at + total;
    const watched = end + CANARY_BYTES <= ARENA_BYTES ? CANARY_BYTES : 0;
    const outside = arena.subarray(end, end + watched).some((byte) => byte !== CANARY);
    bytes.set(now);
    return { touched, outside };
  };
  return { address, after };
}
