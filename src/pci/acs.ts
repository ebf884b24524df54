// SPDX-License-Identifier: Apache-2.0
import { field, register } from '../base/register.ts';
import type { ConfigRegister } from './config_space.ts';
import { ExtendedCapabilityId, PlacedCapability } from './extended_capability.ts';

/** Services by their bits. Source: Linux include/uapi/linux/pci_regs.h (PCI_ACS_*). */
export const Acs = {
  SOURCE_VALIDATION: 0x01,
  TRANSLATION_BLOCKING: 0x02,
  REQUEST_REDIRECT: 0x04,
  COMPLETION_REDIRECT: 0x08,
  UPSTREAM_FORWARDING: 0x10,
} as const;

/** What keeps two devices apart. Source: Linux drivers/iommu/iommu.c (REQ_ACS_FLAGS). */
export const ISOLATING =
  Acs.SOURCE_VALIDATION | Acs.REQUEST_REDIRECT | Acs.COMPLETION_REDIRECT | Acs.UPSTREAM_FORWARDING;

const CAPABILITY = 0x04;
const CONTROL = 0x06;

const bits = (access: 'RO' | 'RW') =>
  ({
    SourceValidation: field(0, 0, { access }),
    TranslationBlocking: field(1, 1, { access }),
    RequestRedirect: field(2, 2, { access }),
    CompletionRedirect: field(3, 3, { access }),
    UpstreamForwarding: field(4, 4, { access }),
  }) as const;

/** Access Control Services: what does not go from a port or function to its neighbours. */
export class AcsCapability extends PlacedCapability {
  override readonly name = 'ACS';
  override readonly id = ExtendedCapabilityId.ACS;
  override readonly version = 1;
  override readonly bytes = 8;
  override readonly registers: readonly ConfigRegister[];
  /** Bits of {@link Acs}. */
  readonly supported: number;

  constructor(supported: number = ISOLATING) {
    super();
    this.supported = supported;
    // Linux turns on what it needs as soon as it finds the function; so does our firmware.
    this.registers = [
      {
        at: CAPABILITY,
        bytes: 2,
        value: supported,
        register: register('ACS Capability', bits('RO')),
      },
      { at: CONTROL, bytes: 2, value: supported, register: register('ACS Control', bits('RW')) },
    ];
  }

  /** What is in force: bits of {@link Acs}. */
  get enabled(): number {
    return this.get(CONTROL, 2) & this.supported;
  }
}
