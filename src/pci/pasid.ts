// SPDX-License-Identifier: Apache-2.0
import { field, register } from '../base/register.ts';
import type { ConfigRegister } from './config_space.ts';
import { ExtendedCapabilityId, PlacedCapability } from './extended_capability.ts';
import { RequestMode } from './translator.ts';

const CAPABILITY = 0x04;
const CONTROL = 0x06;
const MAX_WIDTH = 20;

const capability = register('PASID Capability', {
  ExecutePermissionSupported: field(1, 1, { access: 'RO' }),
  PrivilegedModeSupported: field(2, 2, { access: 'RO' }),
  MaxPasidWidth: field(12, 8, { access: 'RO' }),
});
const control = register('PASID Control', {
  PasidEnable: field(0, 0),
  ExecutePermissionEnable: field(1, 1),
  PrivilegedModeEnable: field(2, 2),
});

export interface PasidOptions {
  /** Bits of a PASID, 1 to 20; 20 unless told. */
  readonly width?: number;
  /** It can ask to execute. Default false. */
  readonly execute?: boolean;
  /** It can ask as a privileged entity. Default false. */
  readonly privileged?: boolean;
}

/** PASIDs: requests can have a prefix. Source of the layout: Linux include/uapi/linux/pci_regs.h (PCI_PASID_*). */
export class PasidCapability extends PlacedCapability {
  override readonly name = 'PASID';
  override readonly id = ExtendedCapabilityId.PASID;
  override readonly version = 1;
  override readonly bytes = 8;
  override readonly registers: readonly ConfigRegister[];
  readonly width: number;
  readonly execute: boolean;
  readonly privileged: boolean;

  constructor(options: PasidOptions = {}) {
    super();
    const { width = MAX_WIDTH, execute = false, privileged = false } = options;
    if (!(Number.isInteger(width) && width >= 1 && width <= MAX_WIDTH))
      throw new RangeError(`PASIDs of ${width} bits: they have 1 to ${MAX_WIDTH}`);
    this.width = width;
    this.execute = execute;
    this.privileged = privileged;
    const value = (execute ? 2 : 0) | (privileged ? 4 : 0) | (width << 8);
    this.registers = [
      { at: CAPABILITY, bytes: 2, value, register: capability },
      { at: CONTROL, bytes: 2, register: control },
    ];
  }

  get enabled(): boolean {
    return control.fields.PasidEnable.get(this.get(CONTROL, 2)) === 1;
  }

  /** Whether the function may send a prefix with this PASID and these bits of {@link RequestMode} now. */
  allows(pasid: number, mode: number): boolean {
    const held = this.get(CONTROL, 2);
    const { ExecutePermissionEnable: execute, PrivilegedModeEnable: privileged } = control.fields;
    if (!this.enabled || pasid >= 2 ** this.width) return false;
    if (mode & RequestMode.EXECUTE && !(this.execute && execute.get(held))) return false;
    return !(mode & RequestMode.PRIVILEGED) || (this.privileged && privileged.get(held) === 1);
  }

  /** What a driver does: on, with what it supports beside; or off. */
  enable(on: boolean): void {
    const all = 1 | (this.execute ? 2 : 0) | (this.privileged ? 4 : 0);
    this.set(CONTROL, 2, on ? all : 0);
  }
}
