// SPDX-License-Identifier: Apache-2.0
/**
 * The one way by which a driver reaches hardware, and a test its devices. Behind it is a model in this process, or another machine.
 * Everything is synchronous; each access of a register and each wait lets the tasks of the hardware run.
 */
import type { Ram } from '../memory/ram.ts';

/** Registers, by byte offset. An access has the width of its name and is aligned to it. */
export interface Mmio {
  read32(offset: number): number;
  write32(offset: number, value: number): void;
  read64(offset: number): bigint;
  write64(offset: number, value: bigint): void;
}

/** Physical memory that driver and hardware share. */
export interface SharedMemory {
  readonly ram: Ram;
  /**
   * Writes bytes of a frame, as whole lines, out of the processor's cache: hardware that does not look there sees only what has been
   * flushed. Without effect for hardware that does.
   */
  flush(frame: number, byte: number, bytes: number): void;
}

/** A message that the hardware writes to interrupt: for its registers. */
export interface InterruptMessage {
  readonly address: bigint;
  readonly data: number;
}

export interface Interrupts {
  /** A vector, with what it calls; the handler runs as an interrupt does, between two steps. */
  request(handler: () => void): InterruptMessage;
  release(message: InterruptMessage): void;
}

export interface HardwareClock {
  /** In ns. */
  readonly now: number;
  /** Lets the hardware run until `condition` holds; false where it does not within `limit` ns. */
  poll(condition: () => boolean, limit: number): boolean;
}

/** Registers of PCI configuration space, by byte offset. */
export interface ConfigSpace {
  read32(offset: number): number;
  write32(offset: number, value: number): void;
}

/** One piece of hardware as its driver has it. */
export interface Hardware {
  readonly mmio: Mmio;
  readonly mem: SharedMemory;
  readonly irq: Interrupts;
  readonly clock: HardwareClock;
  /** Where it is a PCI function. */
  readonly cfg?: ConfigSpace;
  /** Puts it into the state that it has after power-on. */
  reset(): void;
}

/** What a requester can do beside plain reads and writes. */
export type InitiatorCapability = 'dmaRead' | 'dmaWrite' | 'translate' | 'pageRequest' | 'pasid';

/** How one access ended: bytes that were moved before it was refused. */
export interface DmaResult {
  readonly ok: boolean;
  readonly bytes: number;
}

/** A device that sends requests to memory. */
export interface Initiator {
  /** Bus, device and function, as its requests carry them. */
  readonly sourceId: number;
  readonly capabilities: ReadonlySet<InitiatorCapability>;
  dmaRead(address: bigint, into: Uint8Array, pasid?: number): DmaResult;
  dmaWrite(address: bigint, from: Uint8Array, pasid?: number): DmaResult;
}
