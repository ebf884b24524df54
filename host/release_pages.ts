// SPDX-License-Identifier: Apache-2.0
import type { CallHost } from './call_host.ts';
import type { ProcessMm } from './process_mm.ts';

const PAGE = 4096n;

/** The stopped call is about to take pages away from the caller: `prepare` is run where it has pins. */
export function beforePagesGo(host: CallHost, prepare: (mm: ProcessMm) => void): void {
  const { notification: call, clients } = host;
  if (!clients.anyPins()) return;
  const mm = clients.pinnedMmOf(call.tid);
  if (mm === undefined) return;
  clients.enterCall(mm, call.tid);
  prepare(mm);
}

/** Pages that `bytes` from `start` on lie in are about to go; a start that is no page's is refused by Linux. */
export function releasePages(mm: ProcessMm, start: bigint, bytes: bigint): void {
  if (bytes === 0n || start % PAGE !== 0n) return;
  const end = start + ((bytes + PAGE - 1n) & ~(PAGE - 1n));
  mm.pinObserver?.release(start, end - 1n);
}
