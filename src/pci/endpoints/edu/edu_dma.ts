// SPDX-License-Identifier: Apache-2.0
import type { DmaPort } from '../../dma.ts';
import { BUFFER_BYTES, BUFFER_START, DmaCommand } from './registers.ts';

const RUN = BigInt(DmaCommand.RUN);
const hex = (value: bigint): string => `0x${value.toString(16)}`;

/** The DMA engine of an `edu`: its registers, its buffer, and the transfer between buffer and memory. */
export class EduDma {
  source = 0n;
  destination = 0n;
  /** In bytes. */
  count = 0n;
  command = 0n;
  /** What is in the buffer, for tests. */
  readonly buffer = new Uint8Array(BUFFER_BYTES);
  readonly bits: number;
  readonly #port: DmaPort;
  readonly #mistake: (text: string) => void;

  /** `mistake` is told what its driver did wrong: the device itself has no register to say so. */
  constructor(port: DmaPort, bits: number, mistake: (text: string) => void) {
    if (!(Number.isInteger(bits) && bits >= 1 && bits <= 64)) {
      throw new RangeError(`edu: DMA addresses of ${bits} bits; 1 to 64 are possible`);
    }
    this.bits = bits;
    this.#port = port;
    this.#mistake = mistake;
  }

  get isRunning(): boolean {
    return (this.command & RUN) !== 0n;
  }

  /**
   * The transfer that the registers describe. Where a read is refused the buffer is all ones there. A range outside the buffer
   * moves nothing (QEMU logs it and goes on, beyond its own array); the transfer ends like any other.
   */
  move(): void {
    const isToMemory = (this.command & BigInt(DmaCommand.TO_MEMORY)) !== 0n;
    const inside = isToMemory ? this.source : this.destination;
    const start = BigInt(BUFFER_START);
    if (inside < start || inside + this.count > start + BigInt(BUFFER_BYTES)) {
      this.#mistake(
        `edu: ${this.count} bytes at ${hex(inside)} are not inside its buffer, ${hex(start)} to ` +
          `${hex(start + BigInt(BUFFER_BYTES) - 1n)}: nothing is moved`,
      );
      return;
    }
    const from = Number(inside - start);
    const part = this.buffer.subarray(from, from + Number(this.count));
    if (isToMemory) this.#port.write(this.#clamp(this.destination), part);
    else this.#port.read(this.#clamp(this.source), part);
  }

  reset(): void {
    this.source = this.destination = this.count = this.command = 0n;
    this.buffer.fill(0);
  }

  #clamp(address: bigint): bigint {
    const clamped = BigInt.asUintN(this.bits, address);
    if (clamped !== address) {
      this.#mistake(
        `edu: the DMA address ${hex(address)} has more than ${this.bits} bits: it becomes ${hex(clamped)}`,
      );
    }
    return clamped;
  }
}
