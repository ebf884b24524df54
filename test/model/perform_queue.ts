// SPDX-License-Identifier: Apache-2.0
/** Steps of queues in the engine: faults of devices, and what clients read and write. */
import * as test from '../../src/abi/iommufd_test.ts';
import { errnoName } from '../../src/base/errno.ts';
import { reportDeviceFault } from '../../src/iommu/io_pgfault.ts';
import { IommufdDevice } from '../../src/iommufd/device.ts';
import { EventQueueFile } from '../../src/iommufd/eventq.ts';
import { VeventQueue } from '../../src/iommufd/veventq.ts';
import type { Step } from './commands.ts';
import { ARG_END, DATA, type Engine, uapi } from './engine.ts';
import { answer, done, type EngineOutcome } from './outcome.ts';
import { PAGE } from './memory.ts';

export type QueueStep = Extract<
  Step,
  { op: 'fault_alloc' | 'trigger_iopf' | 'page_request' | `queue_${'read' | 'write' | 'poll'}` }
>;

const FAULT_BYTES = uapi.iommu_hwpt_pgfault.size;
const ANSWER_BYTES = uapi.iommu_hwpt_page_response.size;

export function performQueue(engine: Engine, step: QueueStep): EngineOutcome {
  switch (step.op) {
    case 'fault_alloc': {
      const { IOMMU_FAULT_QUEUE_ALLOC, iommu_fault_alloc } = uapi;
      const { by, flags, readOnly } = step;
      const call = engine.ioctl(
        by,
        IOMMU_FAULT_QUEUE_ALLOC,
        iommu_fault_alloc,
        { flags },
        readOnly,
      );
      return answer(call, ({ out_fault_id: fault, out_fault_fd: fd }) => ({ fault, fd }));
    }
    case 'trigger_iopf': {
      const { device: dev_id, pasid, grpid, perm, addr } = step;
      const u = { trigger_iopf: { dev_id, pasid, grpid, perm, addr } };
      return answer(engine.test(0, test.IOMMU_TEST_OP_TRIGGER_IOPF, 0, u));
    }
    case 'page_request': {
      const object = engine.file.context.objects.find(step.device);
      if (!(object instanceof IommufdDevice)) return { ...done, code: 'ENOENT' };
      const { flags, pasid, grpid, perm, addr } = step;
      const rc = reportDeviceFault(object.device, { flags, pasid, grpid, perm, addr });
      engine.sim.assertNothingHeld();
      return { ...done, code: rc === 0 ? 'OK' : errnoName(-rc) };
    }
    case 'queue_read':
    case 'queue_write':
    case 'queue_poll':
      return useQueue(engine, step);
  }
}

/** Where a transfer begins, so that there is memory for `room` bytes of it. */
const addressOf = (room: number): bigint => {
  const at = ARG_END - BigInt(room);
  return at > DATA ? at : DATA;
};

function useQueue(
  engine: Engine,
  step: Step & { op: `queue_${'read' | 'write' | 'poll'}` },
): EngineOutcome {
  const { process, args } = engine.clients[step.by];
  const open = process.get(step.fd);
  const file = open?.kind === 'device' ? open.file : undefined;
  if (!(file instanceof EventQueueFile)) return { ...done, code: 'SKIP' };
  if (step.op === 'queue_poll') return { ...done, out: { events: file.poll() } };
  const address = addressOf(step.room);
  const at = Number(address - DATA) + PAGE;
  const view = new DataView(args.buffer, args.byteOffset);
  if (step.op === 'queue_write') {
    for (const [index, [cookie, code]] of step.answers.entries()) {
      const offset = at + index * ANSWER_BYTES;
      if (offset + ANSWER_BYTES > args.length) break;
      uapi.iommu_hwpt_page_response.write(view, offset, { cookie, code });
    }
  }
  const moved =
    step.op === 'queue_read'
      ? file.read(process, address, step.bytes)
      : file.write(process, address, step.bytes);
  engine.sim.assertNothingHeld();
  if (moved < 0) return { code: errnoName(-moved), out: {}, why: file.refusal };
  if (step.op === 'queue_write') return { ...done, out: { bytes: moved } };
  const { queue } = file;
  const records = queue instanceof VeventQueue ? eventsIn : faultsIn;
  return { ...done, out: { bytes: moved, records: records(view, at, at + moved).join(', ') } };
}

function faultsIn(view: DataView, at: number, end: number): string[] {
  const faults: string[] = [];
  for (let offset = at; offset < end; offset += FAULT_BYTES) {
    const fault = uapi.iommu_hwpt_pgfault.on(view, offset);
    const { flags, dev_id, pasid, grpid, perm, addr, length, cookie } = fault;
    faults.push([flags, dev_id, pasid, grpid, perm, addr, length, cookie].join(' '));
  }
  return faults;
}

/** Each with what the guest calls the device, or `-` where events were lost. */
function eventsIn(view: DataView, at: number, end: number): string[] {
  const events: string[] = [];
  for (let offset = at; offset < end;) {
    const { flags, sequence } = uapi.iommufd_vevent_header.on(view, offset);
    offset += uapi.iommufd_vevent_header.size;
    const isLost = flags === uapi.IOMMU_VEVENTQ_FLAG_LOST_EVENTS;
    events.push([flags, sequence, isLost ? '-' : view.getUint32(offset, true)].join(' '));
    if (!isLost) offset += test.iommu_viommu_event_selftest.size;
  }
  return events;
}
