// SPDX-License-Identifier: Apache-2.0
import type { PciFunction } from '../pci/function.ts';
import * as regs from './pci_regs.ts';

const FIRST = regs.PCI_BASE_ADDRESS_0;
const COUNT = regs.PCI_STD_NUM_BARS;
const atOf = (index: number): number => FIRST + 4 * index;
const upperHalf = (size: bigint): number => Number((size >> 32n) & 0xffff_ffffn);

/**
 * The base addresses of a function: those of the host stay in the hardware, and a client writes to copies, which answer as
 * hardware would. The bytes are those of the client's copy of config space.
 */
export class PciConfigBars {
  readonly #fn: PciFunction;
  readonly #copy: DataView;
  /** As the host had set them when the client came. */
  readonly #host: readonly number[];
  #written = true;

  constructor(fn: PciFunction, copy: DataView) {
    this.#fn = fn;
    this.#copy = copy;
    this.#host = Array.from({ length: COUNT }, (_, index) => copy.getUint32(atOf(index), true));
  }

  /** True where a byte of config space belongs to a base address, that of the expansion ROM included. */
  static holds(pos: number): boolean {
    const inRom = pos >= regs.PCI_ROM_ADDRESS && pos < regs.PCI_ROM_ADDRESS + 4;
    return inRom || (pos >= FIRST && pos < atOf(COUNT));
  }

  /** The client has written to one of them. */
  written(): void {
    this.#written = true;
  }

  /** Before the client reads: bits below a BAR's size are 0, the lowest say what it is, and what is not there is 0. */
  fix(): void {
    if (!this.#written) return;
    this.#written = false;
    this.#copy.setUint32(regs.PCI_ROM_ADDRESS, 0, true);
    for (let index = 0; index < COUNT; index++) {
      const bar = this.#fn.bars[index];
      if (!bar) {
        this.#copy.setUint32(atOf(index), 0, true);
        continue;
      }
      const size = ~BigInt(bar.size - 1);
      const kind =
        (bar.bits === 64 ? regs.PCI_BASE_ADDRESS_MEM_TYPE_64 : 0) |
        (bar.prefetchable ? regs.PCI_BASE_ADDRESS_MEM_PREFETCH : 0);
      this.#keep(atOf(index), Number(size & 0xffff_ffffn), kind);
      if (bar.bits === 64) this.#keep(atOf(++index), upperHalf(size), 0);
    }
  }

  #keep(at: number, mask: number, kind: number): void {
    this.#copy.setUint32(at, (this.#copy.getUint32(at, true) & mask) | kind, true);
  }

  /**
   * Before the client writes Command: where a reset that it made by other means took the host's base addresses away, they are
   * put back, so that it never enables a BAR that is elsewhere.
   */
  restore(command: number): void {
    const { config } = this.#fn;
    const real = config.read(regs.PCI_COMMAND, 2);
    const held = this.#copy.getUint16(regs.PCI_COMMAND, true);
    const lost = command & held & ~real & (regs.PCI_COMMAND_MEMORY | regs.PCI_COMMAND_IO);
    const differs = this.#host.some((bar, i) => bar !== 0 && config.read(atOf(i), 4) !== bar);
    if (lost === 0 && !differs) return;
    this.#host.forEach((bar, index) => config.write(atOf(index), 4, bar));
  }
}
