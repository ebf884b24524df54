// SPDX-License-Identifier: Apache-2.0
import type { ConfigSpace } from '../../src/kernel/hardware.ts';
import { Qtest } from './qtest.ts';

const ADDRESS_PORT = 0xcf8;
const DATA_PORT = 0xcfc;
const ENABLE = 0x8000_0000;

/** Command register: memory accesses are answered, the function may start requests of its own. */
const COMMAND = 0x04;
const MEMORY_AND_MASTER = 0x6;
const BAR0 = 0x10;

/** The configuration space of a PC's PCI function, by ports. */
export class PciConfig implements ConfigSpace {
  readonly sourceId: number;
  readonly #qtest: Qtest;

  /** `sourceId`: bus, device and function. */
  constructor(qtest: Qtest, sourceId: number) {
    this.#qtest = qtest;
    this.sourceId = sourceId;
  }

  read32(offset: number): number {
    const [, value] = this.#qtest.commands([this.#select(offset), Qtest.in32(DATA_PORT)]);
    return Number(value);
  }

  write32(offset: number, value: number): void {
    this.#qtest.commands([this.#select(offset), Qtest.out32(DATA_PORT, value)]);
  }

  /** What firmware would do: gives the first BAR an address, and turns the function on. */
  enable(bar: number): void {
    this.write32(BAR0, bar);
    this.write32(COMMAND, MEMORY_AND_MASTER);
  }

  #select(offset: number): string {
    return Qtest.out32(ADDRESS_PORT, ENABLE + this.sourceId * 256 + offset);
  }
}
