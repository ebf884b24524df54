// SPDX-License-Identifier: Apache-2.0
import { field, register } from '../base/register.ts';
import {
  type ConfigRegister,
  type ConfigSpace,
  CONFIG_SPACE_BYTES,
  CONVENTIONAL_CONFIG_BYTES,
} from './config_space.ts';

/** Ids of extended capabilities. Source: Linux include/uapi/linux/pci_regs.h. */
export const ExtendedCapabilityId = {
  ACS: 0x0d,
  ATS: 0x0f,
  SRIOV: 0x10,
  PRI: 0x13,
  PASID: 0x1b,
} as const;

/** One extended capability of a function: an id, a version, and registers after the four bytes that hold them. */
export interface ExtendedCapability {
  readonly name: string;
  readonly id: number;
  readonly version: number;
  /** Bytes, the header included. */
  readonly bytes: number;
  /** Offsets from the beginning of the capability. */
  readonly registers: readonly ConfigRegister[];
  /** Tells it where it is. */
  place(config: ConfigSpace, at: number): void;
  /** Software wrote to config space, or the model changed it: what follows follows. */
  update?(): void;
}

/** Chains extended capabilities from 0x100 on, each at a multiple of 4. Without any, that space reads 0. */
export function addExtendedCapabilities(
  config: ConfigSpace,
  capabilities: readonly ExtendedCapability[],
): void {
  let at = CONVENTIONAL_CONFIG_BYTES;
  for (const [i, capability] of capabilities.entries()) {
    const next = at + ((capability.bytes + 3) & ~3);
    if (next > CONFIG_SPACE_BYTES) throw new RangeError(`${capability.name} ends beyond 4096`);
    const header = register(`${capability.name} header`, {
      CapabilityId: field(15, 0, { access: 'RO' }),
      CapabilityVersion: field(19, 16, { access: 'RO' }),
      NextCapabilityOffset: field(31, 20, { access: 'RO' }),
    });
    const link = i + 1 < capabilities.length ? next : 0;
    const value = (capability.id | (capability.version << 16) | (link << 20)) >>> 0;
    config.add([{ at: 0, bytes: 4, value, register: header }, ...capability.registers], at);
    capability.place(config, at);
    at = next;
  }
}

/** What all of them have: they know their place, and read and write themselves there. */
export abstract class PlacedCapability implements ExtendedCapability {
  abstract readonly name: string;
  abstract readonly id: number;
  abstract readonly version: number;
  abstract readonly bytes: number;
  abstract readonly registers: readonly ConfigRegister[];
  private config: ConfigSpace | undefined = undefined;
  private base = 0;

  /** Where it is in config space, in bytes. */
  get at(): number {
    return this.base;
  }

  place(config: ConfigSpace, at: number): void {
    this.config = config;
    this.base = at;
  }

  protected get(offset: number, width: 2 | 4): number {
    return this.config?.get(this.base + offset, width) ?? 0;
  }

  protected set(offset: number, width: 2 | 4, value: number): void {
    this.config?.set(this.base + offset, width, value);
  }
}
