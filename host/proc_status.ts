// SPDX-License-Identifier: Apache-2.0
/**
 * /proc/PID/status of a client shows the pages that Linux itself counts as locked and pinned; ours are added, since programs (the
 * kernel's own selftest) check their accounting there.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { PAGE_SIZE } from '../src/memory/mm.ts';
import type { CallHost } from './call_host.ts';
import { readStatus, tgidOf } from './proc_read.ts';
import { MFD_CLOEXEC, O_ACCMODE, O_CLOEXEC } from './uapi.ts';

/** The text with VmLck and VmPin raised by so many pages of 4 KiB. */
export function addToStatus(text: string, lockedPages: number, pinnedPages: number): string {
  const add = (line: string, field: string, pages: number): string =>
    line.replace(new RegExp(`^${field}:\\s*(\\d+) kB$`, 'm'), (_, kb: string) => {
      const sum = Number(kb) + (pages * PAGE_SIZE) / 1024;
      return `${field}:\t${String(sum).padStart(8)} kB`;
    });
  return add(add(text, 'VmLck', lockedPages), 'VmPin', pinnedPages);
}

/** Answers an open of /proc/PID/status (`pid` undefined: the caller's); false where nothing has to be added. */
export function openStatus(host: CallHost, pid: number | undefined, flags: number): boolean {
  const { notification: call, clients, libc, arena, arch } = host;
  if (flags & O_ACCMODE) return false;
  const tgid = tgidOf(pid ?? call.tid);
  const owner = tgid === undefined ? undefined : clients.process(tgid);
  if (owner?.mm === undefined || tgid === undefined) return false;
  const { locked } = clients.mmOf(owner);
  if (locked.lockedPages === 0 && locked.pinnedPages === 0) return false;
  const text = addToStatus(readStatus(pid ?? call.tid), locked.lockedPages, locked.pinnedPages);
  arena.writeString(host.scratch, 'status');
  const memfd = libc.call2(arch.calls.memfd_create, arena.base + host.scratch, MFD_CLOEXEC);
  if (memfd < 0) return false;
  writeSync(memfd, text, 0, 'latin1');
  const readOnly = openSync(`/proc/self/fd/${memfd}`, O_CLOEXEC);
  const result = call.answerWithFd(readOnly, undefined, flags & O_CLOEXEC);
  if (result < 0) call.reply(result);
  closeSync(readOnly);
  closeSync(memfd);
  return true;
}
