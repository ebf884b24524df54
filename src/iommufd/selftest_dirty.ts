// SPDX-License-Identifier: Apache-2.0
import { ErrnoError } from '../base/errno.ts';
import { copyFromUser } from './call.ts';
import type { TestCall } from './selftest.ts';
import { withMockPaging } from './selftest_check.ts';

/** As many bits as fit in 16 MiB. */
const MAX_BITS = 16n * 1024n * 1024n * 8n;

/** IOMMU_TEST_OP_DIRTY: does what a device does that writes to the pages whose bits are set. */
export function dirty({ call, cmd, arg }: TestCall<'dirty'>): void {
  const { iova, length, page_size: pageSize, uptr } = arg;
  if (!pageSize || !length || iova % pageSize || length % pageSize || !uptr) {
    throw new ErrnoError(
      'EINVAL',
      'iova and length are not multiples of page_size, or something is 0',
    );
  }
  const bits = length / pageSize;
  if (bits > MAX_BITS) throw new ErrnoError('EOVERFLOW', `${bits} bits are more than ${MAX_BITS}`);
  withMockPaging(call, cmd.id, ({ mock }) => {
    if (!mock.isTracking) throw new ErrnoError('EINVAL', 'dirty tracking is off');
    if (call.context.iommufd.faults.point('alloc'))
      throw new ErrnoError('ENOMEM', `no memory for ${bits} bits`);
    const bytes = new Uint8Array(Math.ceil(Number(bits) / 8));
    copyFromUser(call.task.mm, uptr, bytes);
    let count = 0;
    for (let bit = 0; bit < Number(bits); bit++) {
      if (!((bytes[bit >>> 3] ?? 0) & (1 << (bit & 7)))) continue;
      mock.markDirty(iova + BigInt(bit) * pageSize);
      count++;
    }
    arg.out_nr_dirty = BigInt(count);
    call.respond();
  });
}
