// SPDX-License-Identifier: Apache-2.0
/** Facts about the mappings of a process: PROCMAP_QUERY where Linux has it (6.11), the text of /proc/PID/maps elsewhere. */
import { closeSync, openSync, readFileSync } from 'node:fs';
import type { Arena } from './arena.ts';
import type { Libc } from './libc.ts';

/** One line of /proc/PID/maps. `device` as stat encodes it; `end` exclusive. */
export interface MapsLine {
  readonly start: bigint;
  readonly end: bigint;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly shared: boolean;
  readonly offset: bigint;
  readonly device: bigint;
  readonly inode: bigint;
  readonly name: string;
}

const PROCMAP_QUERY = 0xc0686611;
const QUERY_BYTES = 104;
const ENOTTY = 25;
const NAME_BYTES = 512;

export class Mappings {
  private readonly libc: Libc;
  private readonly arena: Arena;
  private readonly query: number;
  private readonly name: number;
  private hasQuery = true;

  constructor(libc: Libc, arena: Arena) {
    this.libc = libc;
    this.arena = arena;
    this.query = arena.take(QUERY_BYTES);
    this.name = arena.take(NAME_BYTES);
  }

  /**
   * The mapping that holds `address`, or undefined. `mapsFd` is an open /proc/PID/maps of the same address space, where the
   * caller keeps one: opening it anew takes longer than all the rest.
   */
  at(pid: number, address: bigint, mapsFd?: number): MapsLine | undefined {
    if (this.hasQuery) {
      const found = mapsFd === undefined ? this.ask(pid, address) : this.queryAt(mapsFd, address);
      if (found !== 'unsupported') return found;
      this.hasQuery = false;
    }
    return this.all(pid).find((line) => line.start <= address && address < line.end);
  }

  /** Every mapping, in order; empty where the process is gone. */
  all(pid: number): MapsLine[] {
    try {
      return parseMaps(readFileSync(`/proc/${pid}/maps`, 'latin1'));
    } catch {
      return [];
    }
  }

  private ask(pid: number, address: bigint): MapsLine | undefined | 'unsupported' {
    let fd: number;
    try {
      fd = openSync(`/proc/${pid}/maps`, 'r');
    } catch {
      return undefined;
    }
    const found = this.queryAt(fd, address);
    closeSync(fd);
    return found;
  }

  private queryAt(fd: number, address: bigint): MapsLine | undefined | 'unsupported' {
    const { arena, query } = this;
    // struct procmap_query: size, query_flags, query_addr, then results; linux/fs.h.
    const { u32 } = arena;
    for (let at = query >>> 2, end = at + QUERY_BYTES / 4; at < end; at += 1) u32[at] = 0;
    u32[query >>> 2] = QUERY_BYTES;
    arena.u64[(query >>> 3) + 2] = address;
    u32[(query + 80) >>> 2] = NAME_BYTES;
    arena.writeWord(query + 88, arena.base + this.name);
    const result = this.libc.ioctl(fd, PROCMAP_QUERY, arena.base + query);
    const errno = result < 0 ? this.libc.errno() : 0;
    if (errno === ENOTTY) return 'unsupported';
    if (errno !== 0) return undefined;
    const word = (index: number): bigint => arena.u64[(query >>> 3) + index] as bigint;
    const flags = u32[(query >>> 2) + 10] as number;
    const nameBytes = u32[(query + 80) >>> 2] as number;
    const [major, minor] = [u32[(query + 72) >>> 2] as number, u32[(query + 76) >>> 2] as number];
    return {
      start: word(3),
      end: word(4),
      readable: (flags & 1) !== 0,
      writable: (flags & 2) !== 0,
      shared: (flags & 8) !== 0,
      offset: word(7),
      inode: word(8),
      // Memory of no file has none: that is what is asked for most.
      device: major === 0 && minor === 0 ? 0n : makeDevice(major, minor),
      name:
        nameBytes > 1 ? arena.bytes.toString('latin1', this.name, this.name + nameBytes - 1) : '',
    };
  }
}

/** The number that stat shows for a device: Linux has 12 bits of major and 20 of minor, whose low byte is at the bottom. */
export function makeDevice(major: number, minor: number): bigint {
  const [a, b] = [BigInt(major), BigInt(minor)];
  return (b & 0xffn) | ((a & 0xfffn) << 8n) | ((b >> 8n) << 20n);
}

/** Parses the text of /proc/PID/maps. */
export function parseMaps(text: string): MapsLine[] {
  const lines: MapsLine[] = [];
  for (const line of text.split('\n')) {
    const match =
      /^([0-9a-f]+)-([0-9a-f]+) (..)(.)(.) ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+) *(.*)$/.exec(
        line,
      );
    if (match === null) continue;
    const [, start, end, access, , sharing, offset, major, minor, inode, name] = match;
    lines.push({
      start: BigInt(`0x${start ?? '0'}`),
      end: BigInt(`0x${end ?? '0'}`),
      readable: access?.[0] === 'r',
      writable: access?.[1] === 'w',
      shared: sharing === 's',
      offset: BigInt(`0x${offset ?? '0'}`),
      device: makeDevice(Number.parseInt(major ?? '0', 16), Number.parseInt(minor ?? '0', 16)),
      inode: BigInt(inode ?? '0'),
      name: name ?? '',
    });
  }
  return lines;
}
