// SPDX-License-Identifier: Apache-2.0
import {
  type iommu_option,
  IOMMU_OPTION_HUGE_PAGES,
  IOMMU_OPTION_OP_GET,
  IOMMU_OPTION_OP_SET,
  IOMMU_OPTION_RLIMIT_MODE,
  iommu_option as option,
} from '../abi/iommufd.ts';
import type { Cmd } from '../abi/struct.ts';
import { ErrnoError } from '../base/errno.ts';
import { Capability } from '../kernel/task.ts';
import { AccountMode } from '../memory/accounting.ts';
import { type Call, checkReserved } from './call.ts';

/** The part that is written back. */
const VALUE = option.offsetof('val64');

type OptionCall = Call<Cmd<typeof iommu_option>>;

/** IOMMU_OPTION: only `val64` is written back. */
export function optionIoctl(call: OptionCall): void {
  const { cmd } = call;
  checkReserved(cmd.__reserved);
  switch (cmd.option_id) {
    case IOMMU_OPTION_RLIMIT_MODE:
      rlimitMode(call);
      break;
    case IOMMU_OPTION_HUGE_PAGES:
      hugePages(call);
      break;
    default:
      throw new ErrnoError('EOPNOTSUPP', `there is no option ${cmd.option_id}`);
  }
  call.respondPart(VALUE, 8);
}

const noSuchOp = (op: number): ErrnoError =>
  new ErrnoError('EOPNOTSUPP', `there is no operation ${op}`);

/** Whether locked memory is charged to the address space (1) or the user (0); only before there is any object. */
function rlimitMode({ cmd, context, task }: OptionCall): void {
  if (cmd.object_id) throw new ErrnoError('EOPNOTSUPP', 'IOMMU_OPTION_RLIMIT_MODE takes no object');
  if (cmd.op === IOMMU_OPTION_OP_GET) {
    cmd.val64 = context.accountMode === AccountMode.MM ? 1n : 0n;
    return;
  }
  if (cmd.op !== IOMMU_OPTION_OP_SET) throw noSuchOp(cmd.op);
  if (!task.capable(Capability.SYS_RESOURCE)) {
    throw new ErrnoError('EPERM', 'IOMMU_OPTION_RLIMIT_MODE needs CAP_SYS_RESOURCE');
  }
  if (!context.objects.isEmpty) {
    throw new ErrnoError(
      'EBUSY',
      'IOMMU_OPTION_RLIMIT_MODE can only be set before there are objects',
    );
  }
  if (cmd.val64 > 1n) throw new ErrnoError('EINVAL', `val64 is ${cmd.val64}, not 0 or 1`);
  context.accountMode = cmd.val64 === 1n ? AccountMode.MM : AccountMode.USER;
}

function hugePages({ cmd, context }: OptionCall): void {
  context.withIoas(cmd.object_id, ({ table }) => {
    if (cmd.op === IOMMU_OPTION_OP_GET) {
      cmd.val64 = table.largePagesDisabled ? 0n : 1n;
      return;
    }
    if (cmd.op !== IOMMU_OPTION_OP_SET) throw noSuchOp(cmd.op);
    if (cmd.val64 > 1n) throw new ErrnoError('EINVAL', `val64 is ${cmd.val64}, not 0 or 1`);
    table.setLargePages(cmd.val64 === 1n);
  });
}
