// SPDX-License-Identifier: Apache-2.0
import type { Identity } from '../../header.ts';

/*
 * QEMU's educational device in numbers. Source: QEMU docs/specs/edu.rst; what it does not say (revision, class, subsystem, what
 * odd accesses give): QEMU hw/misc/edu.c.
 */

export const EDU_IDENTITY: Identity = {
  vendorId: 0x1234,
  deviceId: 0x11e8,
  revisionId: 0x10,
  // As QEMU has it: sub-class 0xff of base class 0, which lspci calls "unclassified".
  classCode: 0x00_ff00,
  // What QEMU gives devices that name none (unverified).
  subsystemVendorId: 0x1af4,
  subsystemId: 0x1100,
};

/** Major and minor version, and a name in hexadecimal. */
export const IDENTIFICATION = 0x0100_00ed;

export const BAR0_BYTES = 0x10_0000;

/** Byte offsets in BAR 0. The names are those of the description. */
export const Register = {
  identification: 0x00,
  liveness: 0x04,
  factorial: 0x08,
  status: 0x20,
  interruptStatus: 0x24,
  interruptRaise: 0x60,
  interruptAcknowledge: 0x64,
  dmaSource: 0x80,
  dmaDestination: 0x88,
  dmaCount: 0x90,
  dmaCommand: 0x98,
} as const;

/** For traces. */
export const REGISTER_NAMES: ReadonlyMap<number, string> = new Map([
  [Register.identification, 'identification'],
  [Register.liveness, 'card liveness check'],
  [Register.factorial, 'factorial computation'],
  [Register.status, 'status'],
  [Register.interruptStatus, 'interrupt status'],
  [Register.interruptRaise, 'interrupt raise'],
  [Register.interruptAcknowledge, 'interrupt acknowledge'],
  [Register.dmaSource, 'DMA source address'],
  [Register.dmaDestination, 'DMA destination address'],
  [Register.dmaCount, 'DMA transfer count'],
  [Register.dmaCommand, 'DMA command'],
]);

/** Below it accesses are 4 bytes wide, from it on 4 or 8. */
export const WIDE_FROM = 0x80;

export const Status = { COMPUTING: 0x01, IRQ_FACTORIAL: 0x80 } as const;

export const DmaCommand = {
  RUN: 0x1,
  /** From the device's buffer to memory; else from memory to the buffer. */
  TO_MEMORY: 0x2,
  IRQ: 0x4,
} as const;

/** Bits of the interrupt status. */
export const EduInterrupt = { FACTORIAL: 0x1, DMA: 0x100 } as const;

/** Where the device's buffer is in its own addresses, for its DMA alone: reads of BAR 0 there do not see it. */
export const BUFFER_START = 0x4_0000;
export const BUFFER_BYTES = 4096;

/** Bits of a DMA address, unless told. */
export const DMA_BITS = 28;
