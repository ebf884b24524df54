// SPDX-License-Identifier: Apache-2.0
import {
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
} from '../abi/vfio.ts';
import { ErrnoError } from '../base/errno.ts';
import type { EventFd } from '../kernel/file.ts';
import type { Task } from '../kernel/task.ts';
import type { PciFunction } from '../pci/function.ts';
import type { InterruptSink } from '../pci/interrupts.ts';
import type { ConfigEffects } from './pci_config.ts';
import { holdEventFd } from './eventfd.ts';
import { Intx } from './pci_intx.ts';
import { type MessageHardware, MsiHardware, MsixHardware } from './pci_msi.ts';

export type MessageIndex = typeof VFIO_PCI_MSI_IRQ_INDEX | typeof VFIO_PCI_MSIX_IRQ_INDEX;
type Mode = typeof VFIO_PCI_INTX_IRQ_INDEX | MessageIndex;

/** Interrupts that have one eventfd and no hardware: errors of the device, and the host asking for it back. */
export type NoticeKind = 'err' | 'req';

/**
 * The interrupts of a function in a client's hands (vfio_pci_intrs.c): at most one of INTx, MSI and MSI-X is enabled, each vector
 * signals an eventfd. Nothing is reported where a client's eventfd is full or nobody reads it.
 */
export class PciInterrupts implements InterruptSink, Pick<ConfigEffects, 'isMsi' | 'msiQmax'> {
  readonly line: Intx;
  msiQmax = 0;
  readonly #messages: Readonly<Record<MessageIndex, MessageHardware | undefined>>;
  readonly #triggers = new Map<number, EventFd>();
  readonly #notices = new Map<NoticeKind, EventFd>();
  #mode: MessageIndex | undefined;
  /** Vectors that MSI was enabled with; MSI-X gets more as they are asked for. */
  #allocated = 0;

  constructor(fn: PciFunction) {
    this.line = new Intx(fn);
    this.#messages = {
      [VFIO_PCI_MSI_IRQ_INDEX]: MsiHardware.of(fn),
      [VFIO_PCI_MSIX_IRQ_INDEX]: MsixHardware.of(fn),
    };
  }

  /** What is enabled: an index of interrupts, or undefined. */
  get mode(): Mode | undefined {
    return this.line.enabled ? VFIO_PCI_INTX_IRQ_INDEX : this.#mode;
  }

  get isMsi(): boolean {
    return this.#mode === VFIO_PCI_MSI_IRQ_INDEX;
  }

  /** Vectors that the function has of a kind. */
  vectors(index: MessageIndex): number {
    return this.#messages[index]?.vectors ?? 0;
  }

  intx(asserted: boolean): void {
    if (asserted) this.line.asserted();
  }

  msi(vector: number): void {
    if (this.#mode === VFIO_PCI_MSI_IRQ_INDEX) this.#triggers.get(vector)?.signal();
  }

  msix(vector: number): void {
    if (this.#mode === VFIO_PCI_MSIX_IRQ_INDEX) this.#triggers.get(vector)?.signal();
  }

  /** Tells the client of a vector as if the function had sent it; nothing where it has no eventfd. */
  signal(vector: number): void {
    this.#triggers.get(vector)?.signal();
  }

  /** Enables messages for vectors 0 to `count` - 1, without eventfds. Throws EINVAL (something is enabled), ERANGE (none). */
  enable(index: MessageIndex, count: number): void {
    if (this.mode !== undefined) throw new ErrnoError('EINVAL', 'interrupts are enabled already');
    if (count < 1) throw new ErrnoError('ERANGE', 'no vector was asked for');
    this.#messages[index]?.enable(count);
    this.#mode = index;
    this.#allocated = count;
    if (index === VFIO_PCI_MSI_IRQ_INDEX) this.msiQmax = Math.ceil(Math.log2(count));
  }

  /** Disables messages and gives their eventfds back. */
  disable(): void {
    if (this.#mode === undefined) return;
    for (const vector of this.#triggers.keys()) this.#clear(vector);
    this.#messages[this.#mode]?.disable();
    this.#mode = undefined;
  }

  /**
   * Gives vectors from `start` on their eventfds; a negative descriptor takes a vector's away. On failure those of this call are
   * all taken away, also what was there before: so does Linux.
   * @throws ErrnoError EBADF, EINVAL (not an eventfd; beyond the vectors that MSI was enabled with)
   */
  setTriggers(task: Task, start: number, fds: readonly number[]): void {
    let at = start;
    try {
      for (const fd of fds) this.#setTrigger(task, at++, fd);
    } catch (error) {
      for (let vector = start; vector < at; vector++) this.#clear(vector);
      throw error;
    }
  }

  #setTrigger(task: Task, vector: number, fd: number): void {
    const known = this.#triggers.has(vector);
    this.#clear(vector);
    if (fd < 0 || this.#mode === undefined) return;
    if (!known && this.#mode === VFIO_PCI_MSI_IRQ_INDEX && vector >= this.#allocated) {
      throw new ErrnoError(
        'EINVAL',
        `MSI was enabled with ${this.#allocated} vectors: disable it to have vector ${vector}`,
      );
    }
    this.#triggers.set(vector, holdEventFd(task, fd));
    this.#messages[this.#mode]?.unmask(vector);
  }

  #clear(vector: number): void {
    const trigger = this.#triggers.get(vector);
    if (!trigger || this.#mode === undefined) return;
    this.#messages[this.#mode]?.mask(vector);
    this.#triggers.delete(vector);
    trigger.close();
  }

  /** After a reset, which empties the hardware's table: as it was. */
  restore(): void {
    if (this.#mode === undefined) return;
    this.#messages[this.#mode]?.enable(this.#allocated);
    for (const vector of this.#triggers.keys()) this.#messages[this.#mode]?.unmask(vector);
  }

  notice(kind: NoticeKind): EventFd | undefined {
    return this.#notices.get(kind);
  }

  /** Ours from here on; undefined takes it away. */
  setNotice(kind: NoticeKind, trigger: EventFd | undefined): void {
    this.#notices.get(kind)?.close();
    if (trigger) this.#notices.set(kind, trigger);
    else this.#notices.delete(kind);
  }

  /** The device is closed: nothing interrupts any more, and every eventfd is given back. */
  close(): void {
    this.line.disable();
    this.disable();
    this.setNotice('err', undefined);
    this.setNotice('req', undefined);
  }
}
