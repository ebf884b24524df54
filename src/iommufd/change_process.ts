// SPDX-License-Identifier: Apache-2.0
import type { iommu_ioas_change_process } from '../abi/iommufd.ts';
import type { Cmd } from '../abi/struct.ts';
import { Errno, ErrnoError } from '../base/errno.ts';
import { AccountMode, charge, type Payer, uncharge } from '../memory/accounting.ts';
import { type Call, checkReserved } from './call.ts';
import type { Context } from './context.ts';
import { Ioas } from './ioas.ts';
import type { Pages } from './pages.ts';

/** Every pages object of the context once, however many areas show it. */
function allPages(context: Context): Set<Pages> {
  const all = new Set<Pages>();
  for (const object of context.objects) {
    if (!(object instanceof Ioas)) continue;
    for (const area of object.table.areas) all.add(area.pages);
  }
  return all;
}

const sameAccount = (pages: Pages, payer: Payer): boolean =>
  pages.accountMode === AccountMode.NONE ||
  (pages.payer.mm === payer.mm &&
    (pages.accountMode === AccountMode.MM || pages.payer.user === payer.user));

/**
 * IOMMU_IOAS_CHANGE_PROCESS: the calling process pays for all pinned pages from now on; only maps of files can change
 * hands. The new process is charged before the old one is uncharged, so it fails where both do not fit at once.
 */
export function ioasChangeProcess(call: Call<Cmd<typeof iommu_ioas_change_process>>): void {
  checkReserved(call.cmd.__reserved);
  const payer = call.context.payer(call.task, AccountMode.USER);
  const all = allPages(call.context);
  for (const { source } of all) {
    if (source.kind !== 'file') {
      throw new ErrnoError(
        'EINVAL',
        'a map is not of a file: only maps made by IOMMU_IOAS_MAP_FILE can change process',
      );
    }
  }
  const moving = [...all].filter((pages) => !sameAccount(pages, payer));
  const wanted = new Map<AccountMode, number>();
  for (const { accountMode, charged } of moving) {
    if (charged) wanted.set(accountMode, (wanted.get(accountMode) ?? 0) + charged);
  }
  chargeAll(payer, wanted);
  for (const pages of moving) uncharge(pages.payer, pages.accountMode, pages.charged);
  for (const pages of all) pages.payer = payer;
}

function chargeAll(payer: Payer, wanted: ReadonlyMap<AccountMode, number>): void {
  const done: [AccountMode, number][] = [];
  for (const [mode, pages] of wanted) {
    const error = charge(payer, mode, pages);
    if (!error) {
      done.push([mode, pages]);
      continue;
    }
    for (const [undoMode, undoPages] of done) uncharge(payer, undoMode, undoPages);
    if (error !== -Errno.ENOMEM)
      throw new ErrnoError('EINVAL', 'the address space to charge is gone');
    throw new ErrnoError(
      'ENOMEM',
      `${pages} pages exceed the calling process's RLIMIT_MEMLOCK beside what it has locked`,
    );
  }
}
