// SPDX-License-Identifier: Apache-2.0
/**
 * Which bits of config space a client of vfio-pci reads from a copy instead of the hardware (virtual), and which it can
 * write (writable), by capability. Virtual and writable bits go to the copy, others that are writable go to the hardware, and
 * a write to the rest is dropped. Facts of Linux drivers/vfio/pci/vfio_pci_config.c.
 */
import * as regs from './pci_regs.ts';

/** Bits of one register: its offset in the capability, its width, and the two masks. */
export interface Permission {
  readonly at: number;
  readonly bytes: 1 | 2 | 4;
  readonly virtual: number;
  readonly writable: number;
}

/** The masks of a capability, byte by byte from its beginning; beyond their end all is 0. */
export interface PermissionBits {
  readonly virtual: Uint8Array;
  readonly writable: Uint8Array;
}

const NONE = 0;
const ALL = 0xffff_ffff;

const p = (at: number, bytes: 1 | 2 | 4, virtual: number, writable: number): Permission => ({
  at,
  bytes,
  virtual,
  writable,
});

/** The list can be shortened, so the pointer to the next is a copy. */
const NEXT = p(regs.PCI_CAP_LIST_NEXT, 1, ALL, NONE);
/** The first register of an extended capability holds id, version and pointer. */
const EXTENDED_HEADER = p(0, 4, ALL, NONE);

const { PCI_BASE_ADDRESS_0: BAR } = regs;

// prettier-ignore
export const headerPermissions: readonly Permission[] = [
  p(regs.PCI_VENDOR_ID, 2, ALL, NONE),
  p(regs.PCI_DEVICE_ID, 2, ALL, NONE),
  p(regs.PCI_COMMAND, 2, regs.PCI_COMMAND_INTX_DISABLE, ALL),
  p(regs.PCI_STATUS, 2, regs.PCI_STATUS_CAP_LIST, NONE),
  p(regs.PCI_CACHE_LINE_SIZE, 1, NONE, ALL),
  p(regs.PCI_LATENCY_TIMER, 1, NONE, ALL),
  p(regs.PCI_BIST, 1, NONE, ALL),
  ...[0, 1, 2, 3, 4, 5].map((bar) => p(BAR + 4 * bar, 4, ALL, ALL)),
  p(regs.PCI_ROM_ADDRESS, 4, ALL, ALL),
  p(regs.PCI_CAPABILITY_LIST, 1, ALL, NONE),
  p(regs.PCI_INTERRUPT_LINE, 1, ALL, ALL),
  p(regs.PCI_INTERRUPT_PIN, 1, ALL, NONE),
];

/** MSI has registers that depend on what it can: `flags` is its Message Control. */
export function msiPermissions(flags: number): readonly Permission[] {
  const is64 = (flags & regs.PCI_MSI_FLAGS_64BIT) !== 0;
  const data = is64 ? regs.PCI_MSI_DATA_64 : regs.PCI_MSI_DATA_32;
  const mask = is64 ? regs.PCI_MSI_MASK_64 : regs.PCI_MSI_MASK_32;
  return [
    NEXT,
    p(regs.PCI_MSI_FLAGS, 1, ALL, ALL),
    p(regs.PCI_MSI_ADDRESS_LO, 4, ALL, ALL),
    ...(is64 ? [p(regs.PCI_MSI_ADDRESS_HI, 4, ALL, ALL)] : []),
    p(data, 2, ALL, ALL),
    ...(flags & regs.PCI_MSI_FLAGS_MASKBIT
      ? [p(mask, 4, NONE, ALL), p(mask + 4, 4, NONE, ALL)]
      : []),
  ];
}

const { PCI_EXP_DEVCTL_BCR_FLR, PCI_EXP_DEVCTL_PAYLOAD, PCI_EXP_DEVCTL_READRQ } = regs;

/**
 * Capabilities with rules of their own, by id. All others are read from the hardware, but for the pointer to the next, and
 * not written. PME# is never a client's, and power states are not changed here, so their bits are not writable.
 */
// prettier-ignore
export const capabilityPermissions: Readonly<Record<number, readonly Permission[]>> = {
  [regs.PCI_CAP_ID_PM]: [
    NEXT,
    p(regs.PCI_PM_PMC, 2, regs.PCI_PM_CAP_PME_MASK, NONE),
    p(regs.PCI_PM_CTRL, 4, regs.PCI_PM_CTRL_PME, ~(regs.PCI_PM_CTRL_PME | regs.PCI_PM_CTRL_STATE_MASK)),
  ],
  [regs.PCI_CAP_ID_EXP]: [
    NEXT,
    p(regs.PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_BCR_FLR | PCI_EXP_DEVCTL_PAYLOAD | PCI_EXP_DEVCTL_READRQ, ~regs.PCI_EXP_DEVCTL_PHANTOM),
    p(regs.PCI_EXP_DEVCTL2, 2, NONE, ~regs.PCI_EXP_DEVCTL2_ARI),
  ],
};

/** Bits of the Advanced Error Reporting registers that are errors. */
const UNCORRECTABLE = 0x03ff_f031;
const CORRECTABLE = 0xf1c1;

// prettier-ignore
export const extendedPermissions: Readonly<Record<number, readonly Permission[]>> = {
  [regs.PCI_EXT_CAP_ID_ERR]: [
    EXTENDED_HEADER,
    p(0x04, 4, NONE, UNCORRECTABLE),
    p(0x08, 4, NONE, UNCORRECTABLE),
    p(0x0c, 4, NONE, UNCORRECTABLE),
    p(0x10, 4, NONE, CORRECTABLE),
    p(0x14, 4, NONE, CORRECTABLE),
    p(0x18, 4, NONE, 0x140),
  ],
  [regs.PCI_EXT_CAP_ID_PWR]: [EXTENDED_HEADER, p(0x08, 1, NONE, ALL)],
};

/** The masks as bytes. */
export function permissionBits(permissions: readonly Permission[]): PermissionBits {
  const bytes = Math.max(...permissions.map(({ at, bytes: width }) => at + width));
  const virtual = new Uint8Array(bytes);
  const writable = new Uint8Array(bytes);
  for (const { at, bytes: width, ...masks } of permissions) {
    for (let i = 0; i < width; i++) {
      virtual[at + i] = (masks.virtual >>> (8 * i)) & 0xff;
      writable[at + i] = (masks.writable >>> (8 * i)) & 0xff;
    }
  }
  return { virtual, writable };
}
