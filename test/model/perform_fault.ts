// SPDX-License-Identifier: Apache-2.0
/** Page faults in the engine: queues and their descriptors. */
import { iommu_hwpt_page_response, iommu_hwpt_pgfault } from '../../src/abi/iommufd.ts';
import { IOMMU_TEST_OP_TRIGGER_IOPF } from '../../src/abi/iommufd_test.ts';
import { errnoName } from '../../src/base/errno.ts';
import { EventQueueFile } from '../../src/iommufd/eventq.ts';
import type { Step } from './commands.ts';
import { DATA, DATA_READ_ONLY, type Engine, NO_DATA, uapi } from './engine.ts';
import { PAGE } from './memory.ts';
import { answer, type EngineOutcome } from './perform.ts';

type FaultStep = Extract<
  Step,
  { op: 'fault_queue_alloc' | 'trigger_fault' | 'queue_read' | 'queue_write' }
>;

export function performFault(engine: Engine, step: FaultStep): EngineOutcome {
  switch (step.op) {
    case 'fault_queue_alloc': {
      const { IOMMU_FAULT_QUEUE_ALLOC, iommu_fault_alloc } = uapi;
      const { by, readOnly } = step;
      const call = engine.ioctl(by, IOMMU_FAULT_QUEUE_ALLOC, iommu_fault_alloc, {}, readOnly);
      return answer(call, ({ out_fault_id: id, out_fault_fd: fd }) => ({ id, fd }));
    }
    case 'trigger_fault': {
      const { device: dev_id, pasid, grpid, perm, address: addr } = step;
      const u = { trigger_iopf: { dev_id, pasid, grpid, perm, addr } };
      return answer(engine.test(0, IOMMU_TEST_OP_TRIGGER_IOPF, 0, u));
    }
    case 'queue_read':
    case 'queue_write':
      return transfer(engine, step);
  }
}

const skipped: EngineOutcome = { code: 'SKIP', out: {}, why: '' };

function transfer(
  engine: Engine,
  step: FaultStep & { op: 'queue_read' | 'queue_write' },
): EngineOutcome {
  const { by, fd } = step;
  const file = engine.deviceFile(by, fd);
  if (!(file instanceof EventQueueFile)) return skipped;
  const { process } = engine.clients[by];
  const moved =
    step.op === 'queue_read'
      ? file.read(process, step.readOnly ? DATA_READ_ONLY : DATA, step.count)
      : file.write(process, step.unmapped ? NO_DATA : DATA, putAnswers(engine, step));
  engine.sim.assertNothingHeld();
  if (moved < 0) return { code: errnoName(-moved), out: {}, why: file.refusal };
  if (step.op === 'queue_write') return { code: 'OK', out: { bytes: moved }, why: '' };
  return { code: 'OK', out: { bytes: moved, records: records(engine, step.by, moved) }, why: '' };
}

/** How many bytes they are. */
function putAnswers(engine: Engine, { by, answers, extra }: Step & { op: 'queue_write' }): number {
  const { args } = engine.clients[by];
  const view = new DataView(args.buffer, args.byteOffset + PAGE);
  const { size } = iommu_hwpt_page_response;
  for (const [i, [cookie, code]] of answers.entries())
    iommu_hwpt_page_response.write(view, i * size, { cookie, code });
  return answers.length * size + extra;
}

function records(engine: Engine, by: 0 | 1, bytes: number): string {
  const { args } = engine.clients[by];
  const view = new DataView(args.buffer, args.byteOffset + PAGE);
  const { size } = iommu_hwpt_pgfault;
  return Array.from({ length: bytes / size }, (_, i) => {
    const fault = iommu_hwpt_pgfault.on(view, i * size);
    const { flags, dev_id, pasid, grpid, perm, addr, length, cookie } = fault;
    return [flags, dev_id, pasid, grpid, perm, addr, length, cookie].join(' ');
  }).join('; ');
}
