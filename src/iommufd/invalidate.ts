// SPDX-License-Identifier: Apache-2.0
import type { iommu_hwpt_invalidate } from '../abi/iommufd.ts';
import type { Cmd } from '../abi/struct.ts';
import { ErrnoError } from '../base/errno.ts';
import type { GuestWatcher, NestedDomain } from '../iommu/domain.ts';
import type { Invalidation, UserDataArray } from '../iommu/user_data.ts';
import { PAGE_SIZE } from '../memory/mm.ts';
import { type Call, checkReserved } from './call.ts';
import { check } from './check.ts';
import { clientArray } from './client_data.ts';
import { HwptNested } from './hw_pagetable_nested.ts';
import { IommufdObject } from './objects.ts';
import { ReadEntries } from './read_entries.ts';
import { Viommu } from './viommu.ts';

/** More than anybody asks for; no call is to be busy for ever. */
const MOST_ENTRIES = 2 ** 19;

/**
 * IOMMU_HWPT_INVALIDATE on a nested table or a virtual IOMMU. `entry_num` comes back in any case: how many entries, from the first on,
 * are done. An EFAULT of that takes the place of any other error.
 */
export function hwptInvalidate(call: Call<Cmd<typeof iommu_hwpt_invalidate>>): void {
  const { cmd } = call;
  let handled = 0;
  try {
    const done = run(call);
    handled = done.handled;
    check(done.result, `entry ${handled} of the invalidation was refused by the driver`);
  } finally {
    cmd.entry_num = handled;
    call.respond();
  }
}

function run({ cmd, context, task }: Call<Cmd<typeof iommu_hwpt_invalidate>>): Invalidation {
  checkReserved(cmd.__reserved);
  const { data_uptr: address, entry_len: entryLength, entry_num: entryCount } = cmd;
  if (entryCount > 0 && (!address || !entryLength)) {
    throw new ErrnoError('EINVAL', `${entryCount} entries, and data_uptr or entry_len is 0`);
  }
  if (entryCount > 0 && (entryLength > PAGE_SIZE || entryCount > MOST_ENTRIES)) {
    const most = `${MOST_ENTRIES} of ${PAGE_SIZE} bytes`;
    throw new ErrnoError('EINVAL', `${entryCount} entries of ${entryLength} bytes exceed ${most}`);
  }
  const array = clientArray(task.mm, cmd.data_type, { address, entryLength, entryCount });
  return context.withObject(cmd.hwpt_id, IommufdObject, 'an object', (object) =>
    invalidate(object, array, context.iommufd.core.guestWatcher),
  );
}

function invalidate(
  object: IommufdObject,
  array: UserDataArray,
  watcher: GuestWatcher | undefined,
): Invalidation {
  const isTable = object instanceof HwptNested;
  if (!isTable && !(object instanceof Viommu)) {
    const what = `object ${object.id} is of type ${object.type}`;
    throw new ErrnoError('EINVAL', `${what}: neither a nested table nor a virtual IOMMU`);
  }
  const done = isTable
    ? invalidateTable(object.domain, array, watcher)
    : object.driver.invalidate?.(array);
  if (done) return done;
  throw new ErrnoError('EOPNOTSUPP', `the driver of ${object.type} ${object.id} caches nothing`);
}

/** The driver's part, with a watcher who is told what it read: the client's memory can be another by then. */
function invalidateTable(
  domain: NestedDomain,
  array: UserDataArray,
  watcher: GuestWatcher | undefined,
): Invalidation | undefined {
  if (!watcher || !domain.guestTable) return domain.invalidate?.(array);
  const read = new ReadEntries(array);
  const tell = watcher.invalidating(domain, array.type);
  const done = domain.invalidate?.(read);
  tell(read.entries.slice(0, done?.handled ?? 0));
  return done;
}
