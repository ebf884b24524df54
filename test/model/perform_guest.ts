// SPDX-License-Identifier: Apache-2.0
/** Steps of virtual IOMMUs in the engine. */
import * as test from '../../src/abi/iommufd_test.ts';
import { IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST } from '../../src/abi/iommufd_test_types.ts';
import { ErrnoError } from '../../src/base/errno.ts';
import type { Step } from './commands.ts';
import { DATA, type Engine, uapi } from './engine.ts';
import { PAGE } from './memory.ts';
import { answer, done, type EngineOutcome, type Outcome } from './outcome.ts';

export type GuestStep = Extract<
  Step,
  {
    op:
      | `${'viommu' | 'vdevice' | 'veventq' | 'hw_queue'}_alloc`
      | 'trigger_vevent'
      | 'invalidate_devices'
      | 'check_cache'
      | `shared_${'map' | 'unmap'}`;
  }
>;

export function performGuest(engine: Engine, step: GuestStep): EngineOutcome {
  const { readOnly = false } = step;
  switch (step.op) {
    case 'viommu_alloc':
      return viommuAlloc(engine, step);
    case 'vdevice_alloc': {
      const { viommu: viommu_id, device: dev_id, virtualId: virt_id } = step;
      const { IOMMU_VDEVICE_ALLOC, iommu_vdevice_alloc } = uapi;
      const fields = { viommu_id, dev_id, virt_id };
      const call = engine.ioctl(0, IOMMU_VDEVICE_ALLOC, iommu_vdevice_alloc, fields, readOnly);
      return answer(call, ({ out_vdevice_id: vdevice }) => ({ vdevice }));
    }
    case 'veventq_alloc': {
      const { viommu: viommu_id, type, depth: veventq_depth } = step;
      const { IOMMU_VEVENTQ_ALLOC, iommu_veventq_alloc } = uapi;
      const fields = { viommu_id, type, veventq_depth };
      const call = engine.ioctl(
        step.by,
        IOMMU_VEVENTQ_ALLOC,
        iommu_veventq_alloc,
        fields,
        readOnly,
      );
      return answer(call, ({ out_veventq_id: queue, out_veventq_fd: fd }) => ({ queue, fd }));
    }
    case 'hw_queue_alloc': {
      const { viommu: viommu_id, type, index, iova: nesting_parent_iova, length } = step;
      const { IOMMU_HW_QUEUE_ALLOC, iommu_hw_queue_alloc } = uapi;
      const fields = { viommu_id, type, index, nesting_parent_iova, length };
      const call = engine.ioctl(0, IOMMU_HW_QUEUE_ALLOC, iommu_hw_queue_alloc, fields, readOnly);
      return answer(call, ({ out_hw_queue_id: queue }) => ({ queue }));
    }
    case 'trigger_vevent': {
      const u = { trigger_vevent: { dev_id: step.device } };
      return answer(engine.test(0, test.IOMMU_TEST_OP_TRIGGER_VEVENT, 0, u));
    }
    case 'check_cache': {
      const u = { check_dev_cache: { id: step.index, cache: step.value } };
      return answer(engine.test(0, test.IOMMU_TEST_OP_DEV_CHECK_CACHE, step.device, u));
    }
    case 'invalidate_devices':
      return invalidateDevices(engine, step);
    case 'shared_map':
      return mapShared(engine, step);
    case 'shared_unmap': {
      const { maps } = engine;
      if (maps.length === 0) return { ...done, code: 'SKIP' };
      const [gone] = maps.splice(step.map % maps.length, 1);
      gone?.region.closed();
      return done;
    }
  }
}

function viommuAlloc(engine: Engine, step: Step & { op: 'viommu_alloc' }): EngineOutcome {
  const { args } = engine.clients[0];
  const { type, device: dev_id, hwpt: hwpt_id, length, word } = step;
  const view = new DataView(args.buffer, args.byteOffset + PAGE);
  args.fill(0, PAGE, PAGE + length);
  view.setUint32(0, word, true);
  const data = length > 0 ? { data_len: length, data_uptr: DATA } : {};
  const { IOMMU_VIOMMU_ALLOC, iommu_viommu_alloc } = uapi;
  const fields = { type, dev_id, hwpt_id, ...data };
  const call = engine.ioctl(0, IOMMU_VIOMMU_ALLOC, iommu_viommu_alloc, fields, step.readOnly);
  return answer(call, ({ out_viommu_id: viommu }) => {
    const {
      out_data,
      out_mmap_offset: offset,
      out_mmap_length: bytes,
    } = test.iommu_viommu_selftest.on(view);
    return { viommu, word: out_data, offset, bytes };
  });
}

function invalidateDevices(
  engine: Engine,
  step: Step & { op: 'invalidate_devices' },
): EngineOutcome {
  const { args } = engine.clients[0];
  const { entries, entryBytes } = step;
  const view = new DataView(args.buffer, args.byteOffset + PAGE);
  args.fill(0, PAGE, PAGE + entries.length * entryBytes);
  for (const [index, entry] of entries.entries()) {
    for (const [word, value] of entry.entries())
      if (4 * word < entryBytes) view.setUint32(index * entryBytes + 4 * word, value, true);
    if (step.tail && entryBytes > 12) view.setUint32((index + 1) * entryBytes - 4, 1, true);
  }
  const fields = {
    hwpt_id: step.viommu,
    data_uptr: DATA,
    data_type: step.otherType ? 0 : IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST,
    entry_len: entryBytes,
    entry_num: entries.length,
  };
  const { IOMMU_HWPT_INVALIDATE, iommu_hwpt_invalidate } = uapi;
  const call = engine.ioctl(0, IOMMU_HWPT_INVALIDATE, iommu_hwpt_invalidate, fields, step.readOnly);
  const handled = step.readOnly ? {} : { handled: call.reply.entry_num };
  return { ...answer(call), out: handled };
}

function mapShared(engine: Engine, step: Step & { op: 'shared_map' }): EngineOutcome {
  const { by, offset, shared, executable } = step;
  const request = { offset, length: BigInt(step.pages * PAGE), shared, executable };
  try {
    const region = engine.file.context.mmaps.map(request);
    engine.maps.push({ by, region });
    const bytes = new Uint8Array(4);
    region.read(0, bytes);
    const out: Outcome['out'] = { word: new DataView(bytes.buffer).getUint32(0, true) };
    return { ...done, out };
  } catch (error) {
    if (error instanceof ErrnoError) return { code: error.code, out: {}, why: error.message };
    throw error;
  }
}
