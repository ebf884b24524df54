// SPDX-License-Identifier: Apache-2.0
import { field, register } from '../base/register.ts';
import type { ConfigRegister } from './config_space.ts';

/*
 * The type 0 header, which every endpoint has in the first 64 bytes of its config space. Offsets, bits and what they mean:
 * Linux include/uapi/linux/pci_regs.h; which bits are read-only or RW1C: the PCI specification (unverified).
 */

/** Byte offsets in the header. */
export const CONFIG = {
  VendorId: 0x00,
  DeviceId: 0x02,
  Command: 0x04,
  Status: 0x06,
  RevisionId: 0x08,
  ClassCode: 0x09,
  CacheLineSize: 0x0c,
  LatencyTimer: 0x0d,
  HeaderType: 0x0e,
  Bist: 0x0f,
  /** The first of six, 4 bytes each. */
  BaseAddress: 0x10,
  CardbusCisPointer: 0x28,
  SubsystemVendorId: 0x2c,
  SubsystemId: 0x2e,
  ExpansionRomBaseAddress: 0x30,
  CapabilitiesPointer: 0x34,
  InterruptLine: 0x3c,
  InterruptPin: 0x3d,
  MinGnt: 0x3e,
  MaxLat: 0x3f,
} as const;

/** Where the first capability can be. */
export const FIRST_CAPABILITY = 0x40;

const RO = { access: 'RO' } as const;
const RW1C = { access: 'RW1C' } as const;

/** Bits that PCI Express wires to 0 (special cycles, palette snooping, fast back-to-back) are not here. */
export const command = register('Command', {
  // No function here has I/O space.
  IoSpaceEnable: field(0, 0, RO),
  MemorySpaceEnable: field(1, 1),
  BusMasterEnable: field(2, 2),
  ParityErrorResponse: field(6, 6),
  SerrEnable: field(8, 8),
  InterruptDisable: field(10, 10),
});

export const status = register('Status', {
  InterruptStatus: field(3, 3, RO),
  CapabilitiesList: field(4, 4, RO),
  MasterDataParityError: field(8, 8, RW1C),
  SignaledTargetAbort: field(11, 11, RW1C),
  ReceivedTargetAbort: field(12, 12, RW1C),
  ReceivedMasterAbort: field(13, 13, RW1C),
  SignaledSystemError: field(14, 14, RW1C),
  DetectedParityError: field(15, 15, RW1C),
});

/** A register without parts. */
export const plain = (name: string, bits: number, access: 'RO' | 'RW') =>
  register(name, { [name]: field(bits - 1, 0, { access }) });

/** What a function is; the numbers that drivers look for. */
export interface Identity {
  readonly vendorId: number;
  readonly deviceId: number;
  readonly revisionId: number;
  /** 24 bits: base class, sub-class, programming interface. */
  readonly classCode: number;
  readonly subsystemVendorId: number;
  readonly subsystemId: number;
}

/** The registers of a header, base addresses and the pointer to capabilities apart. */
export function headerRegisters(
  identity: Identity,
  interruptPin: number,
  isMultifunction = false,
): ConfigRegister[] {
  const { vendorId, deviceId, revisionId, classCode, subsystemVendorId, subsystemId } = identity;
  const ro = (name: string, at: number, bytes: 1 | 2 | 4, value = 0): ConfigRegister => ({
    at,
    bytes,
    value,
    register: plain(name, 8 * bytes, 'RO'),
  });
  return [
    ro('VendorId', CONFIG.VendorId, 2, vendorId),
    ro('DeviceId', CONFIG.DeviceId, 2, deviceId),
    { at: CONFIG.Command, bytes: 2, register: command },
    { at: CONFIG.Status, bytes: 2, register: status },
    ro('RevisionId', CONFIG.RevisionId, 1, revisionId),
    ro('ProgrammingInterface', CONFIG.ClassCode, 1, classCode & 0xff),
    ro('SubClassCode', CONFIG.ClassCode + 1, 1, (classCode >>> 8) & 0xff),
    ro('BaseClassCode', CONFIG.ClassCode + 2, 1, (classCode >>> 16) & 0xff),
    // Writable for compatibility, without effect.
    { at: CONFIG.CacheLineSize, bytes: 1, register: plain('CacheLineSize', 8, 'RW') },
    ro('LatencyTimer', CONFIG.LatencyTimer, 1),
    ro('HeaderType', CONFIG.HeaderType, 1, isMultifunction ? 0x80 : 0),
    ro('Bist', CONFIG.Bist, 1),
    ro('CardbusCisPointer', CONFIG.CardbusCisPointer, 4),
    ro('SubsystemVendorId', CONFIG.SubsystemVendorId, 2, subsystemVendorId),
    ro('SubsystemId', CONFIG.SubsystemId, 2, subsystemId),
    ro('ExpansionRomBaseAddress', CONFIG.ExpansionRomBaseAddress, 4),
    // Firmware's notes about the interrupt controller.
    {
      at: CONFIG.InterruptLine,
      bytes: 1,
      value: 0xff,
      register: plain('InterruptLine', 8, 'RW'),
    },
    ro('InterruptPin', CONFIG.InterruptPin, 1, interruptPin),
    ro('MinGnt', CONFIG.MinGnt, 1),
    ro('MaxLat', CONFIG.MaxLat, 1),
  ];
}
