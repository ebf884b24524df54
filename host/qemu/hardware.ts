// SPDX-License-Identifier: Apache-2.0
import type {
  Hardware,
  HardwareClock,
  InterruptMessage,
  Interrupts,
  Mmio,
  SharedMemory,
} from '../../src/kernel/hardware.ts';
import type { Ram } from '../../src/memory/ram.ts';
import type { QemuProcess } from './process.ts';

const INTERRUPT_ADDRESS = 0xfee0_0000n;
const FIRST_VECTOR = 0x40;
const VECTORS = 0xb0;
/** What QEMU's trace says when a message has reached the interrupt controller. */
export const INTERRUPT_EVENT = 'apic_deliver_irq';
const INTERRUPT_LINE = /^apic_deliver_irq .*\bvector (\d+)/;

/** The longest step of the clock while something is waited for, in ns. */
const LONGEST_STEP = 100e6;

/** Where QEMU has the registers, and how it starts anew. */
export interface QemuHardwareOptions {
  readonly base: number;
  readonly ram: Ram;
  reset(): void;
}

/** A device of a QEMU without a guest, as a driver has it. */
export class QemuHardware implements Hardware {
  readonly mmio: Mmio;
  readonly mem: SharedMemory;
  readonly irq: Interrupts;
  readonly clock: HardwareClock;
  readonly #process: QemuProcess;
  readonly #options: QemuHardwareOptions;
  readonly #handlers = new Map<number, () => void>();
  /** Lines of the trace that are no interrupts, for who looks for them. */
  readonly #lines: string[] = [];
  readonly #pending: number[] = [];
  #isDelivering = false;
  #now = 0;

  constructor(process: QemuProcess, options: QemuHardwareOptions) {
    this.#process = process;
    this.#options = options;
    const { qtest } = process;
    const { base } = options;
    this.mmio = {
      read32: (offset) => qtest.read32(base + offset),
      write32: (offset, value) => {
        qtest.write32(base + offset, value);
        this.deliver();
      },
      read64: (offset) => qtest.read64(base + offset),
      write64: (offset, value) => {
        qtest.write64(base + offset, value);
        this.deliver();
      },
    };
    // Its memory has no caches in front of it.
    this.mem = { ram: options.ram, flush: () => undefined };
    this.irq = {
      request: (handler) => this.#request(handler),
      release: (message) => void this.#handlers.delete(message.data),
    };
    const now = (): number => this.#now;
    this.clock = {
      get now() {
        return now();
      },
      poll: (condition, limit) => this.#poll(condition, limit),
    };
  }

  /** Lets time pass. */
  step(ns: number): void {
    this.#now = this.#process.qtest.step(ns);
    this.deliver();
  }

  /** Calls the handlers of interrupts that have come. */
  deliver(): void {
    for (const line of this.#process.takeTrace()) {
      const vector = INTERRUPT_LINE.exec(line)?.[1];
      if (vector === undefined) this.#lines.push(line);
      else this.#pending.push(Number(vector));
    }
    // A handler's own accesses come here again.
    if (this.#isDelivering) return;
    this.#isDelivering = true;
    try {
      for (let vector = this.#pending.shift(); vector !== undefined; vector = this.#pending.shift())
        this.#handlers.get(vector)?.();
    } finally {
      this.#isDelivering = false;
    }
  }

  /** Lines of other trace events since the last time. */
  takeLines(): string[] {
    this.deliver();
    return this.#lines.splice(0);
  }

  reset(): void {
    this.#options.reset();
    this.#process.takeTrace();
    this.#lines.length = 0;
    this.#pending.length = 0;
  }

  #request(handler: () => void): InterruptMessage {
    for (let data = FIRST_VECTOR; data < FIRST_VECTOR + VECTORS; data++) {
      if (this.#handlers.has(data)) continue;
      this.#handlers.set(data, handler);
      return { address: INTERRUPT_ADDRESS, data };
    }
    throw new Error('all vectors are in use');
  }

  /** In steps that grow, as what is polled for mostly holds at once. */
  #poll(condition: () => boolean, limit: number): boolean {
    const deadline = this.#now + limit;
    for (let step = 1000; !condition(); step = Math.min(step * 2, LONGEST_STEP)) {
      if (this.#now >= deadline) return false;
      this.step(Math.min(step, deadline - this.#now));
    }
    return true;
  }
}
