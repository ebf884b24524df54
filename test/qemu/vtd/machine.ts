// SPDX-License-Identifier: Apache-2.0
import type { Hardware } from '../../../src/kernel/hardware.ts';
import type { Faults } from '../../../src/sim/faults.ts';
import type { Sim } from '../../../src/sim/sim.ts';

/** A device that does DMA, as QEMU's `edu` does it: between memory and the start of a buffer that nobody sees. */
export interface Requester {
  readonly name: 'edu' | 'test';
  readonly sourceId: number;
  /** Whether it was done. What was refused leaves the buffer undefined. */
  load(address: bigint, bytes: number): boolean;
  store(address: bigint, bytes: number): boolean;
}

/** A machine just after power-on: one unit, two devices behind it. */
export interface Powered {
  readonly hardware: Hardware;
  /** Reads and writes. */
  readonly edu: Requester;
  /** Writes its pattern only. */
  readonly test: Requester;
  /** Lets what is under way come to its end: interrupts reach their handlers. */
  settle(): void;
}

/** A machine with a VT-d unit, on which scenarios run. */
export interface TestMachine {
  /** `model`, `QEMU 11.1.3`. */
  readonly name: string;
  /** Memory is zeroes, and nobody has any. `sim` is the world of the driver. */
  powerOn(sim: Sim, faults: Faults): Powered;
  stop(): void;
}

/** The units that scenarios run on, with QEMU's options for each. What CAP and ECAP say then, the model is made to say too. */
export const UNITS = {
  legacy: [],
  'scalable, second stage': ['scalable-mode=on'],
  'scalable, first stage': ['scalable-mode=on', 'fsts=on'],
  'legacy, caching mode': ['caching-mode=on'],
  'legacy, snoop control': ['snoop-control=on'],
} as const satisfies Readonly<Record<string, readonly string[]>>;

export type UnitName = keyof typeof UNITS;
