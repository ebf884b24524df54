// SPDX-License-Identifier: Apache-2.0
/**
 * System calls that take pages away from an address space or a file. Where nothing is pinned they go straight on. Where
 * something is, the engine copies what it needs first: a pin holds the page, not the address. Calls that Linux is sure to
 * refuse release nothing.
 */
import type { OldSyscallName, SyscallName } from './arch.ts';
import type { CallHost, Handler, Handlers } from './call_host.ts';
import type { ProcessFileMemory } from './process_file_memory.ts';
import type { ProcessMm } from './process_mm.ts';
import { beforePagesGo, releasePages } from './release_pages.ts';
import {
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  MAP_FIXED,
  MREMAP_FIXED,
} from './uapi.ts';

const PAGE = 4096n;
const U64_LAST = 0xffff_ffff_ffff_ffffn;

export function memoryCalls(host: CallHost, next: Handlers): Handlers {
  const { notification: call, arch, clients } = host;
  const handlers: Handlers = [];
  const on = (name: SyscallName | OldSyscallName, handler: Handler): void => {
    const nr = (arch.calls as Readonly<Partial<Record<string, number>>>)[name];
    if (nr !== undefined) handlers[nr] = handler;
  };
  /** Runs `prepare` where the caller's address space has pins, then lets Linux do the call. */
  const before = (prepare: (mm: ProcessMm) => void) => (): void => {
    beforePagesGo(host, prepare);
    call.resume();
  };
  const release = releasePages;

  on(
    'munmap',
    before((mm) => release(mm, call.big(0), call.big(1))),
  );
  on(
    'madvise',
    before((mm) => release(mm, call.big(0), call.big(1))),
  );
  on(
    'brk',
    before((mm) => {
      // Only a break that moves down takes pages away; where it was is the end of the heap.
      const to = (call.big(0) + PAGE - 1n) & ~(PAGE - 1n);
      const heap = host.mappings.all(call.tid).find((line) => line.name === '[heap]');
      if (heap !== undefined && to >= heap.start && to < heap.end) release(mm, to, heap.end - to);
    }),
  );
  on(
    'mremap',
    before((mm) => {
      const [from, oldBytes, newBytes, flags, to] = [0, 1, 2, 3, 4].map((i) => call.big(i)) as [
        bigint,
        bigint,
        bigint,
        bigint,
        bigint,
      ];
      if (flags & BigInt(MREMAP_FIXED)) release(mm, to, newBytes);
      // A mapping that may move is released as a whole: where it goes is not known before.
      if (flags !== 0n) release(mm, from, oldBytes);
      else if (newBytes < oldBytes) release(mm, from + newBytes, oldBytes - newBytes);
    }),
  );
  on(
    'shmdt',
    before((mm) => {
      const line = host.mappings.at(call.tid, call.big(0));
      if (line?.start === call.big(0)) release(mm, line.start, line.end - line.start);
    }),
  );
  on('process_madvise', () => {
    // The pages may be of any process; the vector is read only where something is pinned at all.
    if (clients.anyPins()) releaseVector();
    call.resume();
  });

  const releaseVector = (): void => {
    const count = Math.min(call.word(2), 1024);
    const vector = new Uint8Array(count * 16);
    if (!host.transfer.read(call.tid, call.big(1), vector)) return;
    const view = new DataView(vector.buffer);
    for (const mm of clients.allMms()) {
      if (mm.pinObserver?.hasPins() !== true) continue;
      for (let at = 0; at < vector.length; at += 16) {
        release(mm, view.getBigUint64(at, true), view.getBigUint64(at + 8, true));
      }
    }
  };

  const ownMmap = next[arch.calls.mmap];
  on('mmap', () => {
    const fd = call.int(4);
    const fixed = (call.uint(3) & MAP_FIXED) !== 0;
    const isOurs = fd >= host.range.low && fd < host.range.high;
    if (isOurs && ownMmap !== undefined) return ownMmap();
    if (fixed) return before((mm) => release(mm, call.big(0), call.big(1)))();
    call.resume();
  });

  const fileOf = (fd: number): ProcessFileMemory | undefined => {
    if (host.fileMemories.empty) return undefined;
    const task = clients.verified(call.tid);
    const open = task?.files.get(fd);
    const memory = open?.kind === 'memory' ? (open.memory as ProcessFileMemory) : undefined;
    return memory?.pinObserver?.hasPins() === true ? memory : undefined;
  };
  const ownTruncate = next[arch.calls.ftruncate];
  on('ftruncate', () => {
    const fd = call.int(0);
    if (fd >= host.range.low && fd < host.range.high && ownTruncate) return ownTruncate();
    fileOf(fd)?.pinObserver?.release(call.big(1), U64_LAST);
    call.resume();
  });
  const ownFallocate = next[arch.calls.fallocate];
  on('fallocate', () => {
    const fd = call.int(0);
    if (fd >= host.range.low && fd < host.range.high && ownFallocate) return ownFallocate();
    const mode = call.uint(1);
    const [offset, bytes] = [call.big(2), call.big(3)];
    const observer = fileOf(fd)?.pinObserver;
    if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) {
      observer?.release(offset, offset + bytes - 1n);
    } else if (mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE)) {
      observer?.release(offset, U64_LAST);
    }
    call.resume();
  });
  on('truncate', () => {
    if (!host.fileMemories.empty) truncatePath();
    call.resume();
  });
  const truncatePath = (): void => {
    const path = host.transfer.readString(call.tid, call.big(0), 4096);
    const file = path === undefined ? undefined : host.fileMemories.ofPath(call.tid, path);
    if (file?.pinObserver?.hasPins() === true) file.pinObserver.release(call.big(1), U64_LAST);
  };
  return handlers;
}
