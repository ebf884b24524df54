// SPDX-License-Identifier: Apache-2.0
import type { EventFd } from '../kernel/file.ts';
import type { PciFunction } from '../pci/function.ts';
import * as regs from './pci_regs.ts';

/**
 * The line of a function, as vfio-pci hands it to a client: it is masked as soon as it has told the client, who unmasks it when
 * the device is served. A line that is still asserted then tells again.
 */
export class Intx {
  readonly #fn: PciFunction;
  /** SET_IRQS has enabled it. */
  #enabled = false;
  #masked = false;
  #trigger: EventFd | undefined;
  /** Unmasks when the client signals it. */
  #unmask: EventFd | undefined;
  /** The client has set Interrupt Disable in its Command register: nothing is told. */
  #disabled = false;

  constructor(fn: PciFunction) {
    this.#fn = fn;
  }

  get enabled(): boolean {
    return this.#enabled;
  }

  get masked(): boolean {
    return this.#masked;
  }

  enable(trigger: EventFd | undefined): void {
    this.#enabled = true;
    this.#trigger = trigger;
    this.#masked = this.#disabled;
    this.#setLine(!this.#masked);
    if (this.#fn.interrupts.intxAsserted) this.asserted();
  }

  /** Ours from here on; the one before is given back. */
  setTrigger(trigger: EventFd | undefined): void {
    this.#trigger?.close();
    this.#trigger = trigger;
  }

  /** There is an eventfd that unmasks. */
  get isUnmaskedByEvent(): boolean {
    return this.#unmask !== undefined;
  }

  /** Ours from here on, where there was none; undefined gives it back. */
  setUnmask(unmask: EventFd | undefined): void {
    this.#unmask?.close();
    this.#unmask = unmask;
    unmask?.watch(() => this.unmask());
  }

  disable(): void {
    this.setTrigger(undefined);
    this.setUnmask(undefined);
    this.#enabled = false;
    this.#masked = false;
  }

  /**
   * From the function, in the middle of what it does: so the mask is only noted here and its Interrupt Disable left alone. The
   * client sees neither.
   */
  asserted(): void {
    if (!this.#enabled || this.#masked) return;
    this.#masked = true;
    this.signal();
  }

  /** Tells the client, whether the line is asserted or not. */
  signal(): void {
    if (this.#enabled && !this.#disabled) this.#trigger?.signal();
  }

  mask(): void {
    if (this.#enabled && this.#masked) return;
    this.#setLine(false);
    if (this.#enabled) this.#masked = true;
  }

  unmask(): void {
    if (!this.#enabled) {
      this.#setLine(true);
      return;
    }
    if (!this.#masked || this.#disabled) return;
    if (this.#isPending) {
      this.signal();
      return;
    }
    this.#masked = false;
    this.#setLine(true);
  }

  /** The client's Interrupt Disable. */
  setDisabled(disabled: boolean): void {
    this.#disabled = disabled;
    if (disabled) this.mask();
    else this.unmask();
  }

  get #isPending(): boolean {
    return (this.#fn.config.read(regs.PCI_STATUS, 2) & regs.PCI_STATUS_INTERRUPT) !== 0;
  }

  /** The hardware's Interrupt Disable. */
  #setLine(on: boolean): void {
    const { config } = this.#fn;
    const held = config.read(regs.PCI_COMMAND, 2);
    const bit = regs.PCI_COMMAND_INTX_DISABLE;
    config.write(regs.PCI_COMMAND, 2, on ? held & ~bit : held | bit);
  }
}
