// SPDX-License-Identifier: Apache-2.0
/** The datasheet of `iommu_test` in numbers; README.md has it in words. */
import type { Identity } from '../../header.ts';

export const IOMMU_TEST_IDENTITY: Identity = {
  // QEMU's vendor id for its educational device, and a device id that we know nobody to use.
  vendorId: 0x1234,
  deviceId: 0x11e9,
  revisionId: 0x01,
  classCode: 0x00_ff00,
  subsystemVendorId: 0x1af4,
  subsystemId: 0x1100,
};

/** Virtual functions have a device id of their own. */
export const VF_DEVICE_ID = 0x11ea;

/** Where its registers begin in BAR 0; below are those of edu. */
export const REGISTERS_START = 0x1000;
export const REGISTERS_BYTES = 0x1000;

/** "IOT" and a version. */
export const IDENTIFICATION = 0x494f_5401;

/** Byte offsets from {@link REGISTERS_START}. */
export const Register = {
  identification: 0x00,
  features: 0x04,
  addressLow: 0x08,
  addressHigh: 0x0c,
  length: 0x10,
  offset: 0x14,
  pasid: 0x18,
  group: 0x1c,
  pageFlags: 0x20,
  mode: 0x24,
  slot: 0x28,
  argument: 0x2c,
  command: 0x30,
  outstanding: 0x40,
  cached: 0x44,
  held: 0x48,
  invalidations: 0x4c,
  responses: 0x50,
  lastResponse: 0x54,
  entryLow: 0x58,
  entryHigh: 0x5c,
  ended: 0x60,
  /** 16 bytes: what a page request with {@link PageFlag.PRIVATE_DATA} carries. */
  privateData: 0xc0,
  /** 16 bytes: what came with the last response; 0 where nothing came. */
  answeredData: 0xd0,
  /** 16 of 4 bytes. */
  state: 0x80,
  /** 16 of 8 bytes. */
  faultAddress: 0x100,
} as const;

/** Software can write these, and reads back what it wrote, cut to these bits. */
export const WRITABLE: ReadonlyMap<number, number> = new Map([
  [Register.addressLow, 0xffff_ffff],
  [Register.addressHigh, 0xffff_ffff],
  [Register.length, 0x1fff],
  [Register.offset, 0xfff],
  [Register.pasid, 0xe00f_ffff],
  [Register.group, 0x1ff],
  [Register.pageFlags, 0xf],
  [Register.mode, 0x70f],
  [Register.slot, 0xf],
  [Register.argument, 0xffff_ffff],
  ...[0, 4, 8, 12].map((at): [number, number] => [Register.privateData + at, 0xffff_ffff]),
]);

export const REGISTER_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(Register).map(([name, at]) => [at, name]),
);

export const Feature = {
  ATS: 1,
  PRI: 2,
  PASID: 4,
  EXECUTE: 8,
  PRIVILEGED: 16,
  VIRTUAL: 32,
} as const;

export const PasidBit = { PRIVILEGED: 1 << 29, EXECUTE: 1 << 30, PRESENT: 1 << 31 } as const;

export const PageFlag = { READ: 1, WRITE: 2, LAST: 4, PRIVATE_DATA: 8 } as const;

export const Mode = {
  /** Completions of invalidations wait for RELEASE. */
  HOLD: 1,
  /** They never come. */
  DROP: 2,
  /** They come, and nothing was forgotten: a broken device. */
  STALE: 4,
  /** A command that ends interrupts. */
  IRQ: 8,
  /** Bits 10:8: completions for each invalidation, less one. */
  COUNT_SHIFT: 8,
} as const;

export const SLOTS = 16;

export const Command = {
  READ: 1,
  WRITE: 2,
  CACHED_READ: 3,
  CACHED_WRITE: 4,
  TRANSLATE: 5,
  PAGE_REQUEST: 6,
  STOP_MARKER: 7,
  FAULTING_READ: 8,
  FAULTING_WRITE: 9,
  RELEASE: 10,
  COMPLETE: 11,
  FORGET: 12,
} as const;
export type Command = (typeof Command)[keyof typeof Command];

/** What became of the command of a slot. */
export const State = {
  IDLE: 0,
  RUNNING: 1,
  /** For the answer to its page requests. */
  WAITING: 2,
  DONE: 3,
  /** The IOMMU or memory refused it, at the fault address. */
  REFUSED: 4,
  /** ATS gave no translation with the access, at the fault address. */
  NOT_PRESENT: 5,
  INVALID: 6,
  FAILURE: 7,
  NO_CREDIT: 8,
  /** Bus mastering, ATS, PRI or the PASID are off, or were turned off meanwhile. */
  OFF: 9,
  /** Parameters that make no sense, a group that waits for an answer already, a command that there is not. */
  BAD: 10,
} as const;
export type State = (typeof State)[keyof typeof State];

/** Bit of edu's interrupt status: a command has ended. */
export const INTERRUPT = 0x200;
