// SPDX-License-Identifier: Apache-2.0
/** VFIO_DEVICE_SET_IRQS: what is checked in which order, and which action does what (vfio_main.c, vfio_pci_intrs.c). */
import {
  VFIO_IRQ_SET_ACTION_MASK,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_ACTION_TYPE_MASK,
  VFIO_IRQ_SET_ACTION_UNMASK,
  VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_IRQ_SET_DATA_TYPE_MASK,
  VFIO_PCI_ERR_IRQ_INDEX,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_PCI_NUM_IRQS,
  VFIO_PCI_REQ_IRQ_INDEX,
  vfio_irq_set,
  vfio_pci_irq,
} from '../abi/vfio.ts';
import type { Cmd } from '../abi/struct.ts';
import { ErrnoError } from '../base/errno.ts';
import { locked } from '../iommufd/locks.ts';
import type { Task } from '../kernel/task.ts';
import type { VfioCall } from './call.ts';
import { holdEventFd } from './eventfd.ts';
import type { VfioPciCore } from './pci_core.ts';
import type { MessageIndex, NoticeKind, PciInterrupts } from './pci_intrs.ts';

const HEADER = vfio_irq_set.offsetofend('count');

/** A request that has passed the common checks. */
interface Request {
  readonly task: Task;
  readonly irqs: PciInterrupts;
  readonly kind: 'none' | 'bool' | 'eventfd';
  readonly start: number;
  readonly count: number;
  /** `count` of them, with kind `bool`. */
  readonly bools: readonly boolean[];
  /** `count` of them, with kind `eventfd`. */
  readonly fds: readonly number[];
}

type Action = (request: Request) => void;

const nameOf = (index: number): string =>
  Object.entries(vfio_pci_irq).find(([, value]) => value === index)?.[0] ?? `index ${index}`;

const invalid = (message: string): ErrnoError => new ErrnoError('EINVAL', message);

/** By index and action; what is not here is ENOTTY. ERR is there for PCI Express functions only. */
const actions: Readonly<Record<number, Readonly<Record<number, Action>>>> = {
  [VFIO_PCI_INTX_IRQ_INDEX]: {
    [VFIO_IRQ_SET_ACTION_MASK]: maskLine,
    [VFIO_IRQ_SET_ACTION_UNMASK]: unmaskLine,
    [VFIO_IRQ_SET_ACTION_TRIGGER]: triggerLine,
  },
  [VFIO_PCI_MSI_IRQ_INDEX]: {
    [VFIO_IRQ_SET_ACTION_TRIGGER]: (request) => triggerMessages(VFIO_PCI_MSI_IRQ_INDEX, request),
  },
  [VFIO_PCI_MSIX_IRQ_INDEX]: {
    [VFIO_IRQ_SET_ACTION_TRIGGER]: (request) => triggerMessages(VFIO_PCI_MSIX_IRQ_INDEX, request),
  },
  [VFIO_PCI_ERR_IRQ_INDEX]: {
    [VFIO_IRQ_SET_ACTION_TRIGGER]: (request) => triggerNotice('err', request),
  },
  [VFIO_PCI_REQ_IRQ_INDEX]: {
    [VFIO_IRQ_SET_ACTION_TRIGGER]: (request) => triggerNotice('req', request),
  },
};

/** VFIO_DEVICE_SET_IRQS. Throws EINVAL, EFAULT, ENOTTY (no such action), EBADF (an eventfd), ERANGE. */
export function setIrqs(call: VfioCall<Cmd<typeof vfio_irq_set>>): void {
  const { device, task, cmd } = call;
  const { flags, index } = cmd;
  const { pci } = device;
  const request = {
    task,
    irqs: pci.irqs,
    start: cmd.start,
    count: cmd.count,
    ...readData(call, pci),
  };
  const isThere = index !== VFIO_PCI_ERR_IRQ_INDEX || pci.isExpress;
  const action = isThere ? actions[index]?.[flags & VFIO_IRQ_SET_ACTION_TYPE_MASK] : undefined;
  if (!action) {
    const wanted = `0x${(flags & VFIO_IRQ_SET_ACTION_TYPE_MASK).toString(16)}`;
    throw new ErrnoError(
      'ENOTTY',
      `${nameOf(index)} has no action ${wanted}: one of its own is needed`,
    );
  }
  locked(pci.igate, () => action(request));
}

/** The common checks, then the data behind the structure. */
function readData(
  call: VfioCall<Cmd<typeof vfio_irq_set>>,
  pci: VfioPciCore,
): Pick<Request, 'kind' | 'bools' | 'fds'> {
  const { argsz, flags, index, start, count } = call.cmd;
  const known = VFIO_IRQ_SET_DATA_TYPE_MASK | VFIO_IRQ_SET_ACTION_TYPE_MASK;
  if (index >= VFIO_PCI_NUM_IRQS) throw invalid(`there is no interrupt index ${index}`);
  if (count >= 0xffff_ffff - start) throw invalid(`start ${start} and count ${count} overflow`);
  if (flags & ~known) throw invalid(`unknown flags 0x${((flags & ~known) >>> 0).toString(16)}`);
  const there = pci.irqCount(index);
  if (start >= there || start + count > there) {
    throw invalid(`${nameOf(index)} has ${there} interrupts: not ${count} from ${start} on`);
  }
  const read = (size: number): DataView => {
    const need = HEADER + count * size;
    if (argsz < need)
      throw invalid(`argsz ${argsz} is less than the ${need} bytes of ${count} items`);
    const bytes = count ? call.tail(HEADER, count * size) : new Uint8Array();
    return new DataView(bytes.buffer);
  };
  const items = Array.from({ length: count }, (_, i) => i);
  switch (flags & VFIO_IRQ_SET_DATA_TYPE_MASK) {
    case VFIO_IRQ_SET_DATA_NONE:
      return { kind: 'none', bools: [], fds: [] };
    case VFIO_IRQ_SET_DATA_BOOL: {
      const data = read(1);
      return { kind: 'bool', bools: items.map((i) => data.getUint8(i) !== 0), fds: [] };
    }
    case VFIO_IRQ_SET_DATA_EVENTFD: {
      const data = read(4);
      return { kind: 'eventfd', bools: [], fds: items.map((i) => data.getInt32(4 * i, true)) };
    }
    default:
      throw invalid('exactly one of the VFIO_IRQ_SET_DATA flags is needed');
  }
}

function checkLine({ irqs, start, count }: Request): void {
  if (irqs.mode !== VFIO_PCI_INTX_IRQ_INDEX) throw invalid('INTx is not enabled');
  checkOne(start, count);
}

function checkOne(start: number, count: number): void {
  if (start !== 0 || count !== 1)
    throw invalid(`INTx is 1 interrupt: not ${count} from ${start} on`);
}

function maskLine(request: Request): void {
  checkLine(request);
  const { irqs, kind, bools } = request;
  if (kind === 'eventfd') throw new ErrnoError('ENOTTY', 'INTx can not be masked by an eventfd');
  if (kind === 'none' || bools[0]) irqs.line.mask();
}

function unmaskLine(request: Request): void {
  checkLine(request);
  const { irqs, kind, bools, fds, task } = request;
  if (kind !== 'eventfd') {
    if (kind === 'none' || bools[0]) irqs.line.unmask();
    return;
  }
  const [fd = -1] = fds;
  if (fd < 0) return irqs.line.setUnmask(undefined);
  const unmask = holdEventFd(task, fd);
  if (irqs.line.isUnmaskedByEvent) {
    unmask.close();
    throw new ErrnoError('EBUSY', 'an eventfd unmasks INTx already: -1 takes it away');
  }
  irqs.line.setUnmask(unmask);
}

function triggerLine(request: Request): void {
  const { irqs, kind, start, count, bools, fds, task } = request;
  const { line, mode } = irqs;
  if (line.enabled && count === 0 && kind === 'none') {
    line.disable();
    return;
  }
  if (mode !== undefined && !line.enabled) {
    throw invalid(`${nameOf(mode)} is enabled: disable it to have INTx`);
  }
  checkOne(start, count);
  if (kind === 'eventfd') {
    const [fd = -1] = fds;
    const trigger = fd < 0 ? undefined : holdEventFd(task, fd);
    if (line.enabled) line.setTrigger(trigger);
    else line.enable(trigger);
    return;
  }
  if (!line.enabled) throw invalid('INTx is not enabled: give it an eventfd first');
  if (kind === 'none' || bools[0]) line.signal();
}

function triggerMessages(index: MessageIndex, request: Request): void {
  const { irqs, kind, start, count, bools, fds, task } = request;
  const { mode } = irqs;
  if (mode === index && count === 0 && kind === 'none') {
    irqs.disable();
    return;
  }
  if (mode !== undefined && mode !== index) {
    throw invalid(`${nameOf(mode)} is enabled: disable it to have ${nameOf(index)}`);
  }
  if (kind === 'eventfd') {
    if (mode === index) {
      irqs.setTriggers(task, start, fds);
      return;
    }
    irqs.enable(index, start + count);
    try {
      irqs.setTriggers(task, start, fds);
    } catch (error) {
      irqs.disable();
      throw error;
    }
    return;
  }
  if (mode !== index) throw invalid(`${nameOf(index)} is not enabled: give it eventfds first`);
  for (let i = 0; i < count; i++) if (kind === 'none' || bools[i]) irqs.signal(start + i);
}

function triggerNotice(notice: NoticeKind, request: Request): void {
  const { irqs, kind, start, count, bools, fds, task } = request;
  if (start !== 0 || count > 1)
    throw invalid(`there is 1 interrupt: not ${count} from ${start} on`);
  if (kind === 'none') {
    const trigger = irqs.notice(notice);
    if (!trigger) throw invalid('it has no eventfd');
    if (count) trigger.signal();
    else irqs.setNotice(notice, undefined);
    return;
  }
  if (!count) throw invalid('data for 1 interrupt is needed');
  if (kind === 'bool') {
    if (bools[0]) irqs.notice(notice)?.signal();
    return;
  }
  const [fd = -1] = fds;
  if (fd < -1) throw invalid(`descriptor ${fd}: -1 takes the eventfd away`);
  irqs.setNotice(notice, fd < 0 ? undefined : holdEventFd(task, fd));
}
