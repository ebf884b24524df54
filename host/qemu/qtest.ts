// SPDX-License-Identifier: Apache-2.0
import { HostError } from '../host_error.ts';
import type { LinePipe } from './line_pipe.ts';

const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

/**
 * QEMU's qtest protocol: a line for each access of memory, ports and the clock, answered by one. Arguments are not checked by QEMU,
 * which ends where they are wrong: so they are numbers here.
 */
export class Qtest {
  readonly #pipe: LinePipe;

  constructor(pipe: LinePipe) {
    this.#pipe = pipe;
  }

  /** One command; what follows OK. */
  command(line: string): string {
    this.#pipe.send(line);
    return this.#answer(line);
  }

  /** Several, sent together: nearly as fast as one. Answers in order. */
  commands(lines: readonly string[]): string[] {
    this.#pipe.send(lines.join('\n'));
    return lines.map((line) => this.#answer(line));
  }

  read32(address: number): number {
    return Number(this.command(Qtest.read32(address)));
  }

  write32(address: number, value: number): void {
    this.command(Qtest.write32(address, value));
  }

  read64(address: number): bigint {
    return BigInt(this.command(Qtest.read64(address)));
  }

  write64(address: number, value: bigint): void {
    this.command(Qtest.write64(address, value));
  }

  /** Lets `ns` of virtual time pass; what time it is then. Time stands still otherwise. */
  step(ns: number): number {
    return Number(this.command(Qtest.step(ns)));
  }

  static read32(address: number): string {
    return `readl ${hex(address)}`;
  }

  static write32(address: number, value: number): string {
    return `writel ${hex(address)} ${hex(value >>> 0)}`;
  }

  static read64(address: number): string {
    return `readq ${hex(address)}`;
  }

  static write64(address: number, value: bigint): string {
    return `writeq ${hex(address)} ${hex(BigInt.asUintN(64, value))}`;
  }

  static out32(port: number, value: number): string {
    return `outl ${hex(port)} ${hex(value >>> 0)}`;
  }

  static in32(port: number): string {
    return `inl ${hex(port)}`;
  }

  static step(ns: number): string {
    return `clock_step ${Math.ceil(ns)}`;
  }

  #answer(line: string): string {
    for (;;) {
      const answer = this.#pipe.receive();
      // What devices tell in between is not asked for.
      if (answer.startsWith('IRQ ')) continue;
      if (!answer.startsWith('OK')) throw new HostError(`QEMU answers '${line}' with '${answer}'`);
      return answer.slice(3);
    }
  }
}
