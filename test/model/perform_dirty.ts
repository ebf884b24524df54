// SPDX-License-Identifier: Apache-2.0
/** Steps of dirty tracking in the engine. */
import * as test from '../../src/abi/iommufd_test.ts';
import type { Step } from './commands.ts';
import { ARG_END, DATA, type Engine, uapi } from './engine.ts';
import { PAGE } from './memory.ts';
import { answer, type EngineOutcome } from './outcome.ts';

export type DirtyStep = Extract<Step, { op: `dirty_${'track' | 'mark' | 'read'}` }>;

export function performDirty(engine: Engine, step: DirtyStep): EngineOutcome {
  const { hwpt: hwpt_id } = step;
  if (step.op === 'dirty_track') {
    const { IOMMU_HWPT_SET_DIRTY_TRACKING, iommu_hwpt_set_dirty_tracking } = uapi;
    const fields = { hwpt_id, flags: step.flags };
    return answer(
      engine.ioctl(0, IOMMU_HWPT_SET_DIRTY_TRACKING, iommu_hwpt_set_dirty_tracking, fields),
    );
  }
  const { iova, length, pageSize: page_size, room } = step;
  const { args } = engine.clients[0];
  args.fill(0, PAGE);
  const address = ARG_END - BigInt(room);
  const at = PAGE + Number(address - DATA);
  if (step.op === 'dirty_mark') {
    for (const bit of step.bits) {
      const byte = at + (bit >> 3);
      if (byte < args.length) args[byte] = (args[byte] ?? 0) | (1 << (bit & 7));
    }
    const u = { dirty: { iova, length, page_size, uptr: step.isNull ? 0n : address } };
    const call = engine.test(0, test.IOMMU_TEST_OP_DIRTY, hwpt_id, u, step.readOnly);
    return answer(call, (reply) => ({ count: reply.u.dirty.out_nr_dirty }));
  }
  const { IOMMU_HWPT_GET_DIRTY_BITMAP, iommu_hwpt_get_dirty_bitmap } = uapi;
  const fields = { hwpt_id, flags: step.flags, iova, length, page_size, data: address };
  const call = engine.ioctl(0, IOMMU_HWPT_GET_DIRTY_BITMAP, iommu_hwpt_get_dirty_bitmap, fields);
  return answer(call, () => ({ bitmap: args.slice(at) }));
}
