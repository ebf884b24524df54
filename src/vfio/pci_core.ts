// SPDX-License-Identifier: Apache-2.0
import {
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_ERR_IRQ_INDEX,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_PCI_NUM_REGIONS,
  VFIO_PCI_REQ_IRQ_INDEX,
  VFIO_PCI_ROM_REGION_INDEX,
  VFIO_PCI_VGA_REGION_INDEX,
} from '../abi/vfio.ts';
import { ErrnoError } from '../base/errno.ts';
import type { Bar } from '../pci/bar.ts';
import type { PciFunction } from '../pci/function.ts';
import { resetFunction } from '../pci/reset.ts';
import { Mutex } from '../sim/lock.ts';
import type { Sim } from '../sim/sim.ts';
import { IGATE_LOCK } from './locks.ts';
import { PciConfig } from './pci_config.ts';
import { IoEventFds, type RegisterWrite } from './ioeventfd.ts';
import { LowPower } from './low_power.ts';
import { PciInterrupts } from './pci_intrs.ts';
import { type Excluded, readBar, writeBar } from './pci_rdwr.ts';
import * as regs from './pci_regs.ts';
import { regionAt } from './regions.ts';

const NOTHING: Excluded = { start: 0, end: 0 };

/** What vfio-pci keeps of a function while a client has it (struct vfio_pci_core_device, as far as a client's life goes). */
interface Open {
  readonly config: PciConfig;
  readonly irqs: PciInterrupts;
  readonly ioeventfds: IoEventFds;
  readonly power: LowPower;
  /** Config space as it was handed over. */
  readonly saved: Uint8Array;
}

/** The driver of a PCI function: gives it to a client at bind, and takes it back, as new, at close (vfio_pci_core.c). */
export class VfioPciCore {
  readonly fn: PciFunction;
  /** Guards how interrupts are set up. */
  readonly igate: Mutex;
  #open: Open | undefined;

  constructor(fn: PciFunction, sim: Sim) {
    this.fn = fn;
    this.igate = new Mutex(sim, IGATE_LOCK);
  }

  /** Prepares the function for a client: reset, its BARs enabled, no DMA until the client enables it. */
  enable(): void {
    const { fn } = this;
    this.#command(regs.PCI_COMMAND_MEMORY, regs.PCI_COMMAND_MASTER);
    resetFunction(fn);
    this.#command(0, regs.PCI_COMMAND_INTX_DISABLE);
    const saved = fn.config.save();
    const irqs = new PciInterrupts(fn);
    const config = new PciConfig(fn, {
      get isMsi() {
        return irqs.isMsi;
      },
      get msiQmax() {
        return irqs.msiQmax;
      },
      intxDisabled: (disabled) => irqs.line.setDisabled(disabled),
      resetFunction: () => this.#reset(),
    });
    fn.interrupts.sink = irqs;
    const power = new LowPower(irqs.line);
    this.#open = { config, irqs, ioeventfds: new IoEventFds(), power, saved };
  }

  /** Takes the function back: no DMA and no interrupt from here on, eventfds given back, and everything reset. */
  disable(): void {
    const { fn } = this;
    const { irqs, ioeventfds, power, saved } = this.opened;
    power.exit();
    this.#command(0, regs.PCI_COMMAND_MASTER);
    irqs.close();
    ioeventfds.close();
    fn.interrupts.sink = undefined;
    this.#open = undefined;
    fn.config.write(regs.PCI_COMMAND, 2, regs.PCI_COMMAND_INTX_DISABLE);
    if (fn.canReset) fn.reset();
    fn.config.restore(saved);
    fn.update();
  }

  private get opened(): Open {
    if (!this.#open) throw new Error(`${this.fn.bdf} is used before it was bound`);
    return this.#open;
  }

  get irqs(): PciInterrupts {
    return this.opened.irqs;
  }

  get ioeventfds(): IoEventFds {
    return this.opened.ioeventfds;
  }

  get power(): LowPower {
    return this.opened.power;
  }

  get isExpress(): boolean {
    return this.fn.express !== undefined;
  }

  get canReset(): boolean {
    return this.fn.canReset;
  }

  /** Bytes of a region; 0 where there is none of that index. */
  regionBytes(index: number): number {
    if (index === VFIO_PCI_CONFIG_REGION_INDEX) return this.opened.config.bytes;
    return this.fn.bars[index]?.size ?? 0;
  }

  /** How many interrupts there are of an index; 0 for indexes that are not there. */
  irqCount(index: number): number {
    const { config, irqs } = this.opened;
    switch (index) {
      case VFIO_PCI_INTX_IRQ_INDEX:
        return config.hasInterruptPin ? 1 : 0;
      case VFIO_PCI_MSI_IRQ_INDEX:
      case VFIO_PCI_MSIX_IRQ_INDEX:
        return irqs.vectors(index);
      case VFIO_PCI_ERR_IRQ_INDEX:
        return this.isExpress ? 1 : 0;
      case VFIO_PCI_REQ_IRQ_INDEX:
        return 1;
      default:
        return 0;
    }
  }

  /** VFIO_DEVICE_RESET: the device is as new, config space and interrupts are as the client had set them. Throws EINVAL. */
  reset(): void {
    if (!this.fn.canReset) {
      throw new ErrnoError(
        'EINVAL',
        `${this.fn.bdf} can not be reset: it has no function level reset`,
      );
    }
    this.#reset();
  }

  #reset(): void {
    resetFunction(this.fn);
    this.opened.irqs.restore();
  }

  /** Reads at an offset of the device's file; the bytes read. Throws EINVAL, EFAULT, EIO. */
  read(position: bigint, into: Uint8Array): number {
    const { index, offset } = this.#region(position, 'read');
    const { config } = this.opened;
    if (index === VFIO_PCI_CONFIG_REGION_INDEX) {
      if (!config.read(offset, into)) throw this.#beyondConfig(offset, into.length);
      return into.length;
    }
    const bar = this.#bar(index, offset);
    const part = into.subarray(0, bar.size - offset);
    const excluded = this.#excluded(index);
    this.#checkDecoded(offset, part.length, excluded);
    readBar(bar, offset, part, excluded);
    return part.length;
  }

  /** Writes at an offset of the device's file; the bytes written. Throws as `read`. */
  write(position: bigint, from: Uint8Array): number {
    const { index, offset } = this.#region(position, 'written');
    const { config } = this.opened;
    if (index === VFIO_PCI_CONFIG_REGION_INDEX) {
      if (!config.write(offset, from)) throw this.#beyondConfig(offset, from.length);
      return from.length;
    }
    const bar = this.#bar(index, offset);
    const part = from.subarray(0, bar.size - offset);
    const excluded = this.#excluded(index);
    this.#checkDecoded(offset, part.length, excluded);
    writeBar(bar, offset, part, excluded);
    return part.length;
  }

  /** A register is written as it is, in one access; nothing where BARs are off. */
  performWrite({ bar, offset, width, value }: RegisterWrite): void {
    if (!this.opened.config.isMemoryEnabled) return;
    this.fn.bars[bar]?.write(offset, width, BigInt.asUintN(8 * width, value));
  }

  /** Some of the bytes are the table of MSI-X. */
  isTouchingTable(index: number, offset: number, length: number): boolean {
    const { start, end } = this.#excluded(index);
    return offset < end && offset + length > start;
  }

  #region(position: bigint, what: string): { index: number; offset: number } {
    const { index, offset } = regionAt(position);
    if (index >= VFIO_PCI_NUM_REGIONS)
      throw new ErrnoError('EINVAL', `there is no region ${index}`);
    if (index === VFIO_PCI_ROM_REGION_INDEX || index === VFIO_PCI_VGA_REGION_INDEX) {
      const name = index === VFIO_PCI_ROM_REGION_INDEX ? 'expansion ROM' : 'VGA ranges';
      throw new ErrnoError('EINVAL', `${this.fn.bdf} has no ${name} that could be ${what}`);
    }
    return { index, offset };
  }

  #bar(index: number, offset: number): Bar {
    const bar = this.fn.bars[index];
    if (!bar) throw new ErrnoError('EINVAL', `${this.fn.bdf} has no BAR ${index}`);
    if (offset >= bar.size) {
      const at = `0x${offset.toString(16)}`;
      throw new ErrnoError(
        'EINVAL',
        `offset ${at} is beyond the ${bar.size} bytes of BAR ${index}`,
      );
    }
    return bar;
  }

  /** An access that stays in the excluded part never meets the hardware. */
  #checkDecoded(offset: number, length: number, { start, end }: Excluded): void {
    if (this.opened.config.isMemoryEnabled) return;
    if (offset >= start && offset + length <= end) return;
    throw new ErrnoError(
      'EIO',
      'Memory Space Enable of the Command register is off: BARs do not answer',
    );
  }

  /** The table of MSI-X is the host's. */
  #excluded(index: number): Excluded {
    const { msix } = this.fn;
    if (msix?.bar !== index) return NOTHING;
    return { start: msix.tableOffset, end: msix.tableOffset + msix.tableBytes };
  }

  #beyondConfig(offset: number, length: number): ErrnoError {
    const { bytes } = this.opened.config;
    return new ErrnoError(
      'EFAULT',
      `${length} bytes from 0x${offset.toString(16)} on are beyond the ${bytes} of config space`,
    );
  }

  /** Sets and clears bits of the hardware's Command register. */
  #command(set: number, clear: number): void {
    const { config } = this.fn;
    const held = config.read(regs.PCI_COMMAND, 2);
    config.write(regs.PCI_COMMAND, 2, (held | set) & ~clear);
  }
}
