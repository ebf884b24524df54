// SPDX-License-Identifier: Apache-2.0
import type { Task } from '../../../src/kernel/task.ts';
import { LocalProcess } from '../../../src/kernel/local_process.ts';
import { LocalFile, LocalMm } from '../../../src/memory/local_mm.ts';
import { PAGE_SIZE } from '../../../src/memory/mm.ts';
import { fnv, FNV_START, pattern } from './bytes.ts';

/** Where exec.c has its buffers; they are fixed, because some answers depend on addresses. */
export const Place = {
  /** Anonymous shared memory. */
  SH: 0x10_0000_0000n,
  /** Anonymous private memory. */
  PR: 0x10_0100_0000n,
  /** The memfd `mf`, shared. */
  MF: 0x10_0200_0000n,
  /** The same memfd, read-only. */
  MR: 0x10_0280_0000n,
  /** Private memory, read-only. */
  RO: 0x10_0300_0000n,
  /** Private memory with a hole: pages 8 to 11. */
  HO: 0x10_0400_0000n,
  /** The memfd `hf` of huge pages. */
  HG: 0x10_1000_0000n,
  /** Scratch: arrays, bitmaps. */
  SC: 0x10_2000_0000n,
  /** Nothing. */
  XX: 0x10_3000_0000n,
} as const;

export function addressOf(name: string): bigint {
  return (Place as Readonly<Record<string, bigint>>)[name] ?? 0n;
}

/** Structures are passed from here: two pages, and a third that nobody may touch. */
export const ARENA = 0x10_4000_0000n;
export const ARENA_BYTES = 2 * PAGE_SIZE;
/** The first page of the arena, read-only. */
export const ARENA_RO = 0x10_4100_0000n;

const KIB = 1024;
const HUGE = 2 * KIB * KIB;
export const SCRATCH_BYTES = KIB * KIB;

/** How much of each buffer `hashall` looks at, in its order. */
export const HASHED = [
  ['SH', 256 * KIB],
  ['PR', 256 * KIB],
  ['MF', 256 * KIB],
  ['MR', 256 * KIB],
  ['RO', 64 * KIB],
  ['HO', 128 * KIB],
  ['HG', 64 * KIB],
] as const satisfies readonly (readonly [keyof typeof Place, number])[];

// What the buffers begin with does not change from script to script.
const INITIAL = {
  SH: pattern(256 * KIB, 1n),
  PR: pattern(256 * KIB, 2n),
  MF: pattern(256 * KIB, 3n),
  RO: pattern(64 * KIB, 4n),
  HO: pattern(128 * KIB, 5n),
  HG: pattern(64 * KIB, 6n),
  HG2: pattern(64 * KIB, 7n),
};

const BAD = new TextEncoder().encode('BAD');

/** Room for the largest buffer that is hashed. */
const hashing = new Uint8Array(Math.max(...HASHED.map(([, bytes]) => bytes)));

/** What each buffer held when it was last hashed, in whichever script: most of them seldom change. */
const lastHashed = new Map<string, { readonly bytes: Uint8Array; readonly hash: number }>();

function fileOf(size: number, name: string, content?: Uint8Array): LocalFile {
  const file = new LocalFile(size, { name });
  if (content) file.bytes.set(content);
  return file;
}

/** The process that exec.c is, as it stands when the script begins: memory and open files. */
export class ScriptClient {
  readonly process: LocalProcess;
  readonly mm = new LocalMm();
  /** The bytes of SC and of the arena. */
  readonly scratch: Uint8Array;
  readonly arena: Uint8Array;
  private readonly fds: ReadonlyMap<string, number>;

  constructor() {
    this.process = new LocalProcess({ mm: this.mm });
    const shared = fileOf(256 * KIB, 'anonymous', INITIAL.SH);
    const mf = fileOf(256 * KIB, 'memfd:mf', INITIAL.MF);
    const hf = fileOf(2 * HUGE, 'memfd:hf', INITIAL.HG);
    hf.bytes.set(INITIAL.HG2, HUGE);
    const scratch = fileOf(SCRATCH_BYTES, 'scratch');
    const arena = fileOf(ARENA_BYTES, 'memfd:arena');
    const { mm } = this;
    mm.map(Place.SH, 256 * KIB, { file: shared });
    mm.map(Place.PR, 256 * KIB).set(INITIAL.PR);
    mm.map(Place.MF, 256 * KIB, { file: mf });
    mm.map(Place.MR, 256 * KIB, { file: mf, writable: false });
    mm.map(Place.RO, 64 * KIB, { writable: false }).set(INITIAL.RO);
    mm.map(Place.HO, 128 * KIB).set(INITIAL.HO);
    mm.unmap(Place.HO + 8n * BigInt(PAGE_SIZE), 4 * PAGE_SIZE);
    mm.map(Place.HG, 2 * HUGE, { file: hf });
    this.scratch = mm.map(Place.SC, SCRATCH_BYTES, { file: scratch });
    this.arena = mm.map(ARENA, ARENA_BYTES, { file: arena });
    mm.map(ARENA + BigInt(ARENA_BYTES), PAGE_SIZE, { readable: false, writable: false });
    mm.map(ARENA_RO, PAGE_SIZE, { file: arena, writable: false });
    const memory = (file: LocalFile): number => this.process.add({ kind: 'memory', memory: file });
    const other = (): number => this.process.add({ kind: 'other' });
    this.fds = new Map([
      ['mf', memory(mf)],
      ['ms', memory(fileOf(2 * PAGE_SIZE + 2048, 'memfd:ms'))],
      ['hf', memory(hf)],
      ['seal', memory(fileOf(8 * PAGE_SIZE, 'memfd:seal'))],
      ['ro', memory(mf)],
      ['null', other()],
      ['pipe', other()],
      // The kernel that answered had its /tmp in memory.
      ['tmp', memory(fileOf(8 * PAGE_SIZE, '/tmp/script'))],
    ]);
  }

  /** The descriptor of one of exec.c's own files, or undefined. */
  fdOf(name: string): number | undefined {
    return this.fds.get(name);
  }

  /** A forked child that makes one call: its memory is a copy, the descriptors are the same ones. */
  inChild<R>(body: (task: Task) => R): R {
    const { process } = this;
    const mm = this.mm.fork();
    const { user, capabilities } = process;
    const child: Task = {
      pid: process.pid + 1,
      mm,
      user,
      process: { memlockPages: () => process.memlockPages() },
      files: process,
      capable: (capability) => capabilities?.includes(capability) ?? true,
    };
    try {
      return body(child);
    } finally {
      mm.exit();
    }
  }

  /** Hash of the first bytes of a buffer, as `hash` has it. */
  hashBuffer(name: keyof typeof Place, length: number): number {
    const bytes = hashing.subarray(0, length);
    if (!this.mm.copyIn(Place[name], bytes)) return this.hash(Place[name], BigInt(length)).hash;
    const last = lastHashed.get(name);
    if (last && Buffer.compare(last.bytes, bytes) === 0) return last.hash;
    const hash = fnv(bytes);
    lastHashed.set(name, { bytes: bytes.slice(), hash });
    return hash;
  }

  /** Hash of memory as the process itself sees it, page by page; what it can not read hashes as a constant. */
  hash(address: bigint, length: bigint): { hash: number; bad: number } {
    let hash = FNV_START;
    let bad = 0;
    const page = new Uint8Array(PAGE_SIZE);
    const end = BigInt.asUintN(64, address + length);
    for (let at = address; at < end;) {
      const room = PAGE_SIZE - Number(at % BigInt(PAGE_SIZE));
      const left = end - at;
      const part = page.subarray(0, left < BigInt(room) ? Number(left) : room);
      if (this.mm.copyIn(at, part)) {
        hash = fnv(part, hash);
      } else {
        hash = fnv(BAD, hash);
        bad++;
      }
      at += BigInt(part.length);
    }
    return { hash, bad };
  }
}
