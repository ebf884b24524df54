// SPDX-License-Identifier: Apache-2.0
import type { PciFunction } from '../pci/function.ts';
import * as regs from './pci_regs.ts';

/** Where x86 takes interrupts. Which message is which is between this driver and itself: clients never see them. */
const MESSAGE_ADDRESS = 0xfee0_0000n;
/** A multiple of 32, since MSI counts its vectors in the low bits. */
const MESSAGE_DATA = 0x40;

/** What the host kernel does to a function whose interrupts are messages: MSI or MSI-X, programmed in the hardware. */
export interface MessageHardware {
  /** Vectors there are. */
  readonly vectors: number;
  /** Enables messages for `count` vectors, all of them masked where that can be. */
  enable(count: number): void;
  disable(): void;
  /** Gives a vector its message and lets it through; what was pending comes at once. */
  unmask(vector: number): void;
  mask(vector: number): void;
}

/** MSI: one address, and data that the function counts up. Only some functions can mask its vectors. */
export class MsiHardware implements MessageHardware {
  readonly vectors: number;
  readonly #fn: PciFunction;
  readonly #at: number;
  readonly #maskAt: number | undefined;
  readonly #dataAt: number;

  /** Undefined where the function has no MSI. */
  static of(fn: PciFunction): MsiHardware | undefined {
    return fn.msi && new MsiHardware(fn, fn.msi);
  }

  private constructor(fn: PciFunction, msi: NonNullable<PciFunction['msi']>) {
    this.#fn = fn;
    this.#at = msi.at;
    this.vectors = msi.vectors;
    const { is64, maskable } = msi;
    this.#dataAt = is64 ? regs.PCI_MSI_DATA_64 : regs.PCI_MSI_DATA_32;
    this.#maskAt = maskable ? (is64 ? regs.PCI_MSI_MASK_64 : regs.PCI_MSI_MASK_32) : undefined;
  }

  enable(count: number): void {
    const { config } = this.#fn;
    const at = this.#at;
    if (this.#maskAt !== undefined) config.write(at + this.#maskAt, 4, 0xffff_ffff);
    config.write(at + regs.PCI_MSI_ADDRESS_LO, 4, Number(MESSAGE_ADDRESS));
    if (this.#dataAt === regs.PCI_MSI_DATA_64) config.write(at + regs.PCI_MSI_ADDRESS_HI, 4, 0);
    config.write(at + this.#dataAt, 2, MESSAGE_DATA);
    this.#control(regs.PCI_MSI_FLAGS_ENABLE | (Math.ceil(Math.log2(count)) << 4));
  }

  disable(): void {
    this.#control(0);
  }

  unmask(vector: number): void {
    this.#setMask(vector, false);
  }

  mask(vector: number): void {
    this.#setMask(vector, true);
  }

  #control(value: number): void {
    const flags = this.#at + regs.PCI_MSI_FLAGS;
    const others = ~(regs.PCI_MSI_FLAGS_ENABLE | regs.PCI_MSI_FLAGS_QSIZE);
    this.#fn.config.write(flags, 2, (this.#fn.config.read(flags, 2) & others) | value);
  }

  #setMask(vector: number, masked: boolean): void {
    if (this.#maskAt === undefined) return;
    const at = this.#at + this.#maskAt;
    const held = this.#fn.config.read(at, 4);
    const bit = 1 << vector;
    this.#fn.config.write(at, 4, (masked ? held | bit : held & ~bit) >>> 0);
  }
}

/** MSI-X: a message and a mask for each vector, in a table that only the host writes. */
export class MsixHardware implements MessageHardware {
  readonly vectors: number;
  readonly #fn: PciFunction;
  readonly #msix: NonNullable<PciFunction['msix']>;

  /** Undefined where the function has no MSI-X. */
  static of(fn: PciFunction): MsixHardware | undefined {
    return fn.msix && new MsixHardware(fn, fn.msix);
  }

  private constructor(fn: PciFunction, msix: NonNullable<PciFunction['msix']>) {
    this.#fn = fn;
    this.#msix = msix;
    this.vectors = msix.vectors;
  }

  enable(): void {
    for (let vector = 0; vector < this.vectors; vector++) this.mask(vector);
    this.#control(regs.PCI_MSIX_FLAGS_ENABLE);
  }

  disable(): void {
    this.#control(0);
  }

  unmask(vector: number): void {
    const entry = vector * regs.PCI_MSIX_ENTRY_SIZE;
    this.#msix.table.write(entry, 8, MESSAGE_ADDRESS);
    this.#msix.table.write(entry + regs.PCI_MSIX_ENTRY_DATA, 4, BigInt(MESSAGE_DATA + vector));
    this.#setMask(vector, 0n);
  }

  mask(vector: number): void {
    this.#setMask(vector, 1n);
  }

  #setMask(vector: number, masked: bigint): void {
    const entry = vector * regs.PCI_MSIX_ENTRY_SIZE;
    this.#msix.table.write(entry + regs.PCI_MSIX_ENTRY_VECTOR_CTRL, 4, masked);
  }

  #control(value: number): void {
    this.#fn.config.write(this.#msix.at + regs.PCI_MSIX_FLAGS, 2, value);
  }
}
