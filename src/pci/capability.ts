// SPDX-License-Identifier: Apache-2.0
import { field, register } from '../base/register.ts';
import type { ConfigRegister, ConfigSpace } from './config_space.ts';
import { CONFIG, FIRST_CAPABILITY, plain, status } from './header.ts';

/** Capability ids. Source: Linux include/uapi/linux/pci_regs.h. */
export const CapabilityId = { MSI: 0x05, EXPRESS: 0x10, MSIX: 0x11 } as const;

/** One capability of a function: an id, and registers after the two bytes of id and next pointer. */
export interface Capability {
  readonly name: string;
  readonly id: number;
  /** Bytes, id and next pointer included. */
  readonly bytes: number;
  /** Its registers, offsets from the beginning of the capability, the first two bytes left out. */
  readonly registers: readonly ConfigRegister[];
  /** Tells it where it is. */
  place(config: ConfigSpace, at: number): void;
}

/** Chains capabilities, each at a multiple of 4, in their order from the end of the header on; and points to the first. */
export function addCapabilities(config: ConfigSpace, capabilities: readonly Capability[]): void {
  let at = FIRST_CAPABILITY;
  const places = capabilities.map((capability) => {
    const place = at;
    at += (capability.bytes + 3) & ~3;
    return place;
  });
  config.add([
    {
      at: CONFIG.CapabilitiesPointer,
      bytes: 1,
      value: places[0] ?? 0,
      register: plain('CapabilitiesPointer', 8, 'RO'),
    },
  ]);
  for (const [i, capability] of capabilities.entries()) {
    const place = places[i] ?? 0;
    const header = register(`${capability.name} header`, {
      CapabilityId: field(7, 0, { access: 'RO' }),
      NextCapabilityPointer: field(15, 8, { access: 'RO' }),
    });
    const value = capability.id | ((places[i + 1] ?? 0) << 8);
    config.add([{ at: 0, bytes: 2, value, register: header }, ...capability.registers], place);
    capability.place(config, place);
  }
}

/** The Status register of a function with capabilities: it says so for good. */
export const statusValue = (capabilities: readonly Capability[]): number =>
  capabilities.length > 0 ? status.fields.CapabilitiesList.setLo(0, 1) : 0;
