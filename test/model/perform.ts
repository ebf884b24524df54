// SPDX-License-Identifier: Apache-2.0
/** One resolved step in the engine. */
import * as test from '../../src/abi/iommufd_test.ts';
import {
  IOMMU_HWPT_DATA_SELFTEST,
  IOMMU_HWPT_INVALIDATE_DATA_SELFTEST,
} from '../../src/abi/iommufd_test_types.ts';
import { ErrnoError, errnoName } from '../../src/base/errno.ts';
import { NO_PASID } from '../../src/iommu/device.ts';
import { ResvType } from '../../src/iommu/reserved.ts';
import { attachDevice, detachDevice, replaceDevice } from '../../src/iommufd/change_pt.ts';
import { IommufdDevice } from '../../src/iommufd/device.ts';
import { DmaBuf } from '../../src/iommufd/dma_buf.ts';
import type { Step } from './commands.ts';
import { DATA, type Engine, uapi } from './engine.ts';
import { PAGE } from './memory.ts';
import { answer, done, type EngineOutcome, type Outcome } from './outcome.ts';
import { performDirty } from './perform_dirty.ts';
import { performGuest } from './perform_guest.ts';
import { performVfio } from './perform_vfio.ts';
import { performQueue } from './perform_queue.ts';
import { FIRST_FD, FILES } from './world.ts';

export function perform(engine: Engine, step: Step): EngineOutcome {
  if (!step.forked) return performOne(engine, step);
  return engine.inChild('by' in step ? step.by : 0, () => performOne(engine, step));
}

function performOne(engine: Engine, step: Step): EngineOutcome {
  const { readOnly = false } = step;
  switch (step.op) {
    case 'ioas_alloc': {
      const call = engine.ioctl(0, uapi.IOMMU_IOAS_ALLOC, uapi.iommu_ioas_alloc, {}, readOnly);
      return answer(call, ({ out_ioas_id: id }) => ({ id }));
    }
    case 'destroy':
      return answer(engine.ioctl(0, uapi.IOMMU_DESTROY, uapi.iommu_destroy, { id: step.id }));
    case 'map': {
      const { flags, ioas: ioas_id, va: user_va, length, iova } = step;
      const fields = { flags, ioas_id, user_va, length, iova };
      const call = engine.ioctl(
        step.by,
        uapi.IOMMU_IOAS_MAP,
        uapi.iommu_ioas_map,
        fields,
        readOnly,
      );
      return answer(call, (reply) => ({ iova: reply.iova }));
    }
    case 'map_file': {
      const { flags, ioas: ioas_id, fd, start, length, iova } = step;
      const fields = { flags, ioas_id, fd, start, length, iova };
      const call = engine.ioctl(
        step.by,
        uapi.IOMMU_IOAS_MAP_FILE,
        uapi.iommu_ioas_map_file,
        fields,
        readOnly,
      );
      return answer(call, (reply) => ({ iova: reply.iova }));
    }
    case 'unmap': {
      const { ioas: ioas_id, iova, length } = step;
      const fields = { ioas_id, iova, length };
      const call = engine.ioctl(0, uapi.IOMMU_IOAS_UNMAP, uapi.iommu_ioas_unmap, fields, readOnly);
      return answer(call, (reply) => ({ length: reply.length }));
    }
    case 'copy': {
      const {
        flags,
        length,
        ioas: dst_ioas_id,
        source: src_ioas_id,
        from: src_iova,
        iova: dst_iova,
      } = step;
      const fields = { flags, length, dst_ioas_id, src_ioas_id, src_iova, dst_iova };
      const call = engine.ioctl(0, uapi.IOMMU_IOAS_COPY, uapi.iommu_ioas_copy, fields, readOnly);
      return answer(call, (reply) => ({ iova: reply.dst_iova }));
    }
    case 'allow': {
      engine.putRanges(0, step.ranges);
      const fields = { ioas_id: step.ioas, num_iovas: step.ranges.length, allowed_iovas: DATA };
      return answer(
        engine.ioctl(0, uapi.IOMMU_IOAS_ALLOW_IOVAS, uapi.iommu_ioas_allow_iovas, fields),
      );
    }
    case 'ranges': {
      const fields = { ioas_id: step.ioas, num_iovas: step.room, allowed_iovas: DATA };
      const call = engine.ioctl(
        0,
        uapi.IOMMU_IOAS_IOVA_RANGES,
        uapi.iommu_ioas_iova_ranges,
        fields,
        readOnly,
      );
      return answer(call, ({ num_iovas: count, out_iova_alignment: alignment }) => {
        const ranges = engine.getRanges(0, count).map(({ start, last }) => `${start}-${last}`);
        return { count, alignment, ranges: ranges.join(' ') };
      });
    }
    case 'huge_pages':
    case 'rlimit_mode': {
      const { value } = step;
      const op = value === undefined ? uapi.IOMMU_OPTION_OP_GET : uapi.IOMMU_OPTION_OP_SET;
      const option =
        step.op === 'huge_pages'
          ? { option_id: uapi.IOMMU_OPTION_HUGE_PAGES, object_id: step.ioas }
          : { option_id: uapi.IOMMU_OPTION_RLIMIT_MODE };
      const fields = { ...option, op, val64: value ?? 0n };
      const call = engine.ioctl(0, uapi.IOMMU_OPTION, uapi.iommu_option, fields, readOnly);
      return answer(call, (reply) => (value === undefined ? { value: reply.val64 } : {}));
    }
    case 'hwpt_alloc':
      return hwptAlloc(engine, step);
    case 'nested_alloc':
      return nestedAlloc(engine, step);
    case 'viommu_alloc':
    case 'vdevice_alloc':
    case 'veventq_alloc':
    case 'hw_queue_alloc':
    case 'trigger_vevent':
    case 'invalidate_devices':
    case 'check_cache':
    case 'shared_map':
    case 'shared_unmap':
      return performGuest(engine, step);
    case 'invalidate':
      return invalidate(engine, step);
    case 'change_process':
      return answer(
        engine.ioctl(step.by, uapi.IOMMU_IOAS_CHANGE_PROCESS, uapi.iommu_ioas_change_process, {}),
      );
    case 'mmap':
    case 'munmap':
    case 'mprotect':
    case 'end':
    case 'close':
      return performLocal(engine, step);
    case 'device_add':
    case 'device_remove':
    case 'device_bind':
    case 'device_unbind':
    case 'device_attach':
    case 'device_replace':
    case 'device_detach':
      return performDevice(engine, step);
    case 'dirty_track':
    case 'dirty_mark':
    case 'dirty_read':
      return performDirty(engine, step);
    case 'vfio_ioas':
    case 'vfio_api':
    case 'vfio_extension':
    case 'vfio_set':
    case 'vfio_info':
    case 'vfio_map':
    case 'vfio_unmap':
      return performVfio(engine, step);
    case 'fault_alloc':
    case 'trigger_iopf':
    case 'page_request':
    case 'queue_read':
    case 'queue_write':
    case 'queue_poll':
      return performQueue(engine, step);
    default:
      return performTest(engine, step);
  }
}

function hwptAlloc(engine: Engine, step: Step & { op: 'hwpt_alloc' }): EngineOutcome {
  const { args } = engine.clients[0];
  const { table } = step;
  if (table !== undefined) {
    const data = test.iommu_hwpt_selftest;
    data.write(new DataView(args.buffer), PAGE, { iotlb: 0, pagetable_type: table });
  }
  const data =
    table === undefined
      ? {}
      : {
          data_type: IOMMU_HWPT_DATA_SELFTEST,
          data_len: test.iommu_hwpt_selftest.size,
          data_uptr: DATA,
        };
  const { flags, device: dev_id, pt: pt_id, fault: fault_id } = step;
  const fields = { flags, dev_id, pt_id, fault_id, ...data };
  const call = engine.ioctl(0, uapi.IOMMU_HWPT_ALLOC, uapi.iommu_hwpt_alloc, fields, step.readOnly);
  return answer(call, ({ out_hwpt_id: hwpt }) => ({ hwpt }));
}

function nestedAlloc(engine: Engine, step: Step & { op: 'nested_alloc' }): EngineOutcome {
  const { args } = engine.clients[0];
  const { length, value } = step;
  args.fill(0, PAGE, PAGE + length);
  new DataView(args.buffer, args.byteOffset).setUint32(PAGE, value, true);
  const data =
    length === 0 ? {} : { data_type: IOMMU_HWPT_DATA_SELFTEST, data_len: length, data_uptr: DATA };
  const { flags, device: dev_id, parent: pt_id, fault: fault_id } = step;
  const fields = { flags, dev_id, pt_id, fault_id, ...data };
  const call = engine.ioctl(0, uapi.IOMMU_HWPT_ALLOC, uapi.iommu_hwpt_alloc, fields, step.readOnly);
  return answer(call, ({ out_hwpt_id: hwpt }) => ({ hwpt }));
}

const ENTRY_BYTES = 8;

function invalidate(engine: Engine, step: Step & { op: 'invalidate' }): EngineOutcome {
  const { args } = engine.clients[0];
  const words = new DataView(args.buffer, args.byteOffset + PAGE);
  for (const [i, [flags, index]] of step.entries.entries()) {
    words.setUint32(i * ENTRY_BYTES, flags, true);
    words.setUint32(i * ENTRY_BYTES + 4, index, true);
  }
  const fields = {
    hwpt_id: step.hwpt,
    data_uptr: DATA,
    data_type: step.otherType ? 0 : IOMMU_HWPT_INVALIDATE_DATA_SELFTEST,
    entry_len: ENTRY_BYTES,
    entry_num: step.entries.length,
  };
  const { IOMMU_HWPT_INVALIDATE, iommu_hwpt_invalidate } = uapi;
  const call = engine.ioctl(0, IOMMU_HWPT_INVALIDATE, iommu_hwpt_invalidate, fields, step.readOnly);
  const handled = step.readOnly ? {} : { handled: call.reply.entry_num };
  return { ...answer(call), out: handled };
}

type TestStep = Extract<
  Step,
  {
    op:
      | 'mock'
      | 'mock_replace'
      | 'add_reserved'
      | 'memory_limit'
      | `pasid_${'attach' | 'replace' | 'detach' | 'check'}`
      | `access_${'create' | 'pin' | 'unpin' | 'rw' | 'replace'}`
      | `check_${'map' | 'refs' | 'iotlb'}`
      | `dmabuf_${'get' | 'revoke'}`;
  }
>;

function performTest(engine: Engine, step: TestStep): EngineOutcome {
  const { readOnly = false } = step;
  switch (step.op) {
    case 'mock': {
      const u = { mock_domain_flags: { dev_flags: step.flags } };
      const call = engine.test(0, test.IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS, step.pt, u, readOnly);
      return answer(call, ({ u: { mock_domain } }) => ({
        stdev: mock_domain.out_stdev_id,
        idev: mock_domain.out_idev_id,
        hwpt: mock_domain.out_hwpt_id,
      }));
    }
    case 'mock_replace': {
      const u = { mock_domain_replace: { pt_id: step.pt } };
      const call = engine.test(0, test.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, step.mock, u, readOnly);
      return answer(call, (reply) => ({ hwpt: reply.u.mock_domain_replace.pt_id }));
    }
    case 'pasid_attach': {
      const u = { pasid_attach: { pasid: step.pasid, pt_id: step.pt } };
      const call = engine.test(0, test.IOMMU_TEST_OP_PASID_ATTACH, step.mock, u, readOnly);
      return answer(call, (reply) => ({ hwpt: reply.u.pasid_attach.pt_id }));
    }
    case 'pasid_replace': {
      const u = { pasid_replace: { pasid: step.pasid, pt_id: step.pt } };
      const call = engine.test(0, test.IOMMU_TEST_OP_PASID_REPLACE, step.mock, u, readOnly);
      return answer(call, (reply) => ({ hwpt: reply.u.pasid_replace.pt_id }));
    }
    case 'pasid_detach': {
      const u = { pasid_detach: { pasid: step.pasid } };
      return answer(engine.test(0, test.IOMMU_TEST_OP_PASID_DETACH, step.mock, u));
    }
    case 'pasid_check': {
      const u = { pasid_check: { pasid: step.pasid, hwpt_id: step.pt } };
      return answer(engine.test(0, test.IOMMU_TEST_OP_PASID_CHECK_HWPT, step.mock, u));
    }
    case 'add_reserved': {
      const u = { add_reserved: { start: step.start, length: step.length } };
      return answer(engine.test(0, test.IOMMU_TEST_OP_ADD_RESERVED, step.ioas, u));
    }
    case 'access_create': {
      const u = { create_access: { flags: step.flags } };
      const call = engine.test(step.by, test.IOMMU_TEST_OP_CREATE_ACCESS, step.ioas, u, readOnly);
      return answer(call, (reply) => ({ fd: reply.u.create_access.out_access_fd }));
    }
    case 'access_pin': {
      const { flags, iova, length, va: uptr } = step;
      const u = { access_pages: { flags, iova, length, uptr } };
      const call = engine.test(step.by, test.IOMMU_TEST_OP_ACCESS_PAGES, step.fd, u, readOnly);
      return answer(call, (reply) => ({ item: reply.u.access_pages.out_access_pages_id }));
    }
    case 'access_unpin': {
      const u = { destroy_access_pages: { access_pages_id: step.item } };
      return answer(engine.test(step.by, test.IOMMU_TEST_OP_DESTROY_ACCESS_PAGES, step.fd, u));
    }
    case 'access_rw': {
      const { flags, iova, length, fill } = step;
      const { args } = engine.clients[step.by];
      const write = (flags & test.MOCK_ACCESS_RW_WRITE) !== 0;
      const bytes = Math.min(Number(length), args.length - PAGE);
      args.fill(write ? fill : 0, PAGE, PAGE + bytes);
      const u = { access_rw: { flags, iova, length, uptr: DATA } };
      const call = engine.test(step.by, test.IOMMU_TEST_OP_ACCESS_RW, step.fd, u);
      return answer(call, () => (write ? {} : { data: args.slice(PAGE, PAGE + bytes) }));
    }
    case 'access_replace': {
      const u = { access_replace_ioas: { ioas_id: step.ioas } };
      return answer(engine.test(step.by, test.IOMMU_TEST_OP_ACCESS_REPLACE_IOAS, step.fd, u));
    }
    case 'check_map': {
      const u = { check_map: { iova: step.iova, length: step.length, uptr: step.va } };
      return answer(engine.test(0, test.IOMMU_TEST_OP_MD_CHECK_MAP, step.hwpt, u));
    }
    case 'check_iotlb': {
      const u = { check_iotlb: { id: step.index, iotlb: step.value } };
      return answer(engine.test(0, test.IOMMU_TEST_OP_MD_CHECK_IOTLB, step.hwpt, u));
    }
    case 'check_refs': {
      const u = { check_refs: { uptr: step.va, length: step.length, refs: step.refs } };
      return answer(engine.test(step.by, test.IOMMU_TEST_OP_MD_CHECK_REFS, 0, u));
    }
    case 'dmabuf_get': {
      const u = { dmabuf_get: { length: step.length } };
      const call = engine.test(step.by, test.IOMMU_TEST_OP_DMABUF_GET, 0, u);
      return answer(call, (_reply, fd) => {
        const open = engine.clients[step.by].process.get(fd);
        const buffer = open?.kind === 'device' ? open.file : undefined;
        if (buffer instanceof DmaBuf) engine.tagFrames(buffer.run.frame, buffer.size / PAGE);
        return { fd };
      });
    }
    case 'dmabuf_revoke': {
      const u = { dmabuf_revoke: { dmabuf_fd: step.fd, revoked: step.revoked } };
      return answer(engine.test(step.by, test.IOMMU_TEST_OP_DMABUF_REVOKE, 0, u));
    }
    case 'memory_limit': {
      const u = { memory_limit: { limit: step.limit } };
      return answer(engine.test(0, test.IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT, 0, u));
    }
  }
}

type LocalStep = Extract<Step, { op: 'mmap' | 'munmap' | 'mprotect' | 'end' | 'close' }>;

/** What clients do without iommufd being asked. */
function performLocal(engine: Engine, step: LocalStep): EngineOutcome {
  switch (step.op) {
    case 'mmap': {
      const client = engine.clients[step.by];
      const { page, pages, offset, writable, file } = step;
      client.mm.unmap(BigInt(page * PAGE), pages * PAGE);
      engine.mapMemory(client, page, pages, {
        offset,
        writable,
        ...(file === undefined ? {} : { file }),
      });
      return done;
    }
    case 'munmap':
      engine.clients[step.by].mm.unmap(BigInt(step.page * PAGE), step.pages * PAGE);
      return done;
    case 'mprotect': {
      const { readable, writable } = step;
      engine.clients[step.by].mm.protect(BigInt(step.page * PAGE), step.pages * PAGE, {
        readable,
        writable,
      });
      return done;
    }
    case 'end': {
      const { process, mm } = engine.clients[1];
      engine.unmapShared(1);
      if (step.killed) {
        mm.kill();
        // Its memory is gone already when the kernel closes its files.
        for (let fd = FIRST_FD; fd < FIRST_FD + 64; fd++) process.close(fd);
      } else {
        process.exit();
      }
      engine.clients[1] = engine.newClient(1);
      return done;
    }
    case 'close': {
      const open = engine.clients[step.by].process.get(step.fd);
      if (open?.kind !== 'device' || open.file === engine.file) return { ...done, code: 'SKIP' };
      engine.clients[step.by].process.close(step.fd);
      return done;
    }
  }
}

type DeviceStep = Extract<Step, { op: `device_${string}` }>;

/** Devices that share a group: the calls that VFIO makes, which throw instead of answering an errno. */
function performDevice(engine: Engine, step: DeviceStep): EngineOutcome {
  try {
    return { ...done, out: changeDevice(engine, step) };
  } catch (error) {
    if (error instanceof ErrnoError) return { code: error.code, out: {}, why: error.message };
    throw error;
  } finally {
    engine.sim.assertNothingHeld();
  }
}

function changeDevice(engine: Engine, step: DeviceStep): Outcome['out'] {
  const { mock, devices, file } = engine;
  const { context } = file;
  if (step.op === 'device_add') {
    const noDirty = step.noDirty ? test.MOCK_FLAGS_DEVICE_NO_DIRTY : 0;
    const flags = noDirty | (step.pasids ? test.MOCK_FLAGS_DEVICE_PASID : 0);
    const resvRegions = step.reserved.map(([start, last]) => ({
      start,
      last,
      prot: 0,
      type: ResvType.RESERVED,
    }));
    const device = mock.createDevice(flags, {
      group: step.group,
      resvRegions,
      sharesPageRequests: step.sharesFaults,
    });
    if (typeof device === 'number')
      throw new ErrnoError(errnoName(-device) as 'EINVAL', 'createDevice');
    devices.push({ device, bound: undefined });
    return {};
  }
  const chosen = devices[step.device % devices.length];
  const bound = chosen?.bound;
  const skip = new ErrnoError('SKIP' as 'EINVAL', 'not a state for this');
  if (!chosen) throw skip;
  switch (step.op) {
    case 'device_remove':
      if (
        bound ||
        [...(chosen.device.group?.pasids.keys() ?? [])].some((pasid) => pasid !== NO_PASID)
      )
        throw skip;
      mock.destroyDevice(chosen.device);
      devices.splice(devices.indexOf(chosen), 1);
      return {};
    case 'device_bind':
      if (bound) throw skip;
      chosen.bound = IommufdDevice.claim(context, chosen.device, { selftest: true });
      return { id: chosen.bound.id };
    case 'device_unbind':
      if (!bound || isAttached(bound)) throw skip;
      bound.unbind();
      chosen.bound = undefined;
      return {};
    case 'device_attach':
    case 'device_replace': {
      if (!bound) throw skip;
      const change = step.op === 'device_attach' ? attachDevice : replaceDevice;
      return { hwpt: change(bound, step.pasid, step.pt) };
    }
    case 'device_detach':
      if (!bound) throw skip;
      detachDevice(context, bound, step.pasid);
      return {};
  }
}

const isAttached = (bound: IommufdDevice): boolean =>
  [...bound.group.attachments.values()].some(({ devices }) => devices.has(bound));

export { FILES };
