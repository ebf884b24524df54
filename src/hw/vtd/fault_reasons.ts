// SPDX-License-Identifier: Apache-2.0
/**
 * Why a request is refused, by the number that a fault record carries: VTD-5.10 §7.1.3. `isQualified`: not recorded where an entry on
 * the way has FPD set (VTD-5.10 §7.1.1). What only interrupt remapping could provoke is not here. 0x5c and 0x82
 * are about requests to execute, which later units have not: revisions before 4.1, as Linux drivers/iommu/intel/dmar.c names them.
 */

interface Reason {
  readonly code: number;
  readonly isQualified: boolean;
}

const always = (code: number): Reason => ({ code, isQualified: false });
const qualified = (code: number): Reason => ({ code, isQualified: true });

const TABLE = {
  /** Legacy mode. */
  ROOT_NOT_PRESENT: always(0x01),
  CONTEXT_NOT_PRESENT: qualified(0x02),
  CONTEXT_INVALID: qualified(0x03),
  BEYOND_WIDTH: qualified(0x04),
  NO_WRITE: qualified(0x05),
  NO_READ: qualified(0x06),
  SS_ACCESS: qualified(0x07),
  ROOT_ACCESS: always(0x08),
  CONTEXT_ACCESS: always(0x09),
  ROOT_RESERVED: always(0x0a),
  CONTEXT_RESERVED: qualified(0x0b),
  SS_RESERVED: qualified(0x0c),
  CONTEXT_BLOCKS: qualified(0x0d),
  INTERRUPT_ADDRESS: qualified(0x0e),
  /** Scalable mode. */
  SM_ROOT_POINTER: always(0x30),
  SM_PASID_IN_LEGACY: always(0x31),
  SM_PAGES_IN_LEGACY: always(0x32),
  SM_ROOT_ACCESS: always(0x38),
  SM_ROOT_NOT_PRESENT: always(0x39),
  SM_ROOT_RESERVED: always(0x3a),
  SM_CONTEXT_ACCESS: always(0x40),
  SM_CONTEXT_NOT_PRESENT: qualified(0x41),
  SM_CONTEXT_RESERVED: qualified(0x42),
  SM_CONTEXT_INVALID: qualified(0x43),
  SM_DTE_CLEAR: qualified(0x44),
  SM_PASID_DISABLED: qualified(0x45),
  SM_PASID_TOO_LARGE: qualified(0x46),
  SM_PRE_CLEAR: qualified(0x47),
  /** A request names the PASID that stands for requests without. */
  SM_RID_PASID: qualified(0x48),
  SM_DIRECTORY_ACCESS: always(0x50),
  SM_DIRECTORY_NOT_PRESENT: qualified(0x51),
  SM_DIRECTORY_RESERVED: qualified(0x52),
  SM_PASID_ACCESS: always(0x58),
  SM_PASID_NOT_PRESENT: qualified(0x59),
  SM_PASID_RESERVED: qualified(0x5a),
  SM_PASID_INVALID: qualified(0x5b),
  SM_ERE_CLEAR: qualified(0x5c),
  SM_SRE_CLEAR: qualified(0x5d),
  SM_FS_ACCESS: qualified(0x70),
  SM_FS_NOT_PRESENT: qualified(0x71),
  SM_FS_RESERVED: qualified(0x72),
  SM_FS_TOP_ACCESS: qualified(0x73),
  SM_FS_BEYOND_MGAW: qualified(0x74),
  SM_FS_TOP_NO_READ: qualified(0x75),
  SM_FS_NO_READ: qualified(0x76),
  SM_FS_NO_WRITE: qualified(0x77),
  SM_SS_ACCESS: qualified(0x78),
  /** Neither readable nor writable, by itself or by all entries on the way together: not present. */
  SM_SS_NOT_PRESENT: qualified(0x79),
  SM_SS_RESERVED: qualified(0x7a),
  SM_SS_POINTER: qualified(0x7b),
  SM_SS_UPDATE_NO_SNOOP: qualified(0x7c),
  SM_SS_UPDATE_FAILED: qualified(0x7d),
  SM_NOT_CANONICAL: qualified(0x80),
  SM_NOT_USER: qualified(0x81),
  SM_NO_EXECUTE: qualified(0x82),
  SM_BEYOND_HAW: qualified(0x83),
  SM_SS_BEYOND: qualified(0x84),
  SM_NO_WRITE: qualified(0x85),
  SM_NO_READ: qualified(0x86),
  SM_INTERRUPT_ADDRESS: qualified(0x87),
  SM_PASID_BEYOND_PSS: qualified(0x89),
  SM_FS_UPDATE_NO_SNOOP: qualified(0x90),
  SM_FS_UPDATE_FAILED: qualified(0x91),
} as const satisfies Readonly<Record<string, Reason>>;

export type FaultName = keyof typeof TABLE;

/** The codes by name. */
export const Fault = Object.fromEntries(
  Object.entries(TABLE).map(([name, { code }]) => [name, code]),
) as Readonly<Record<FaultName, number>>;

const QUALIFIED = new Set(
  Object.values(TABLE)
    .filter(({ isQualified }) => isQualified)
    .map(({ code }) => code),
);

/** FPD of an entry on the way keeps it from being recorded. */
export const isQualified = (code: number): boolean => QUALIFIED.has(code);

/** What differs between the modes in a walk of the second stage. */
export interface SecondStageReasons {
  /** The top table can not be read; another table. */
  readonly top: number;
  readonly access: number;
  readonly notPresentRead: number;
  readonly notPresentWrite: number;
  readonly reserved: number;
  readonly noRead: number;
  readonly noWrite: number;
  readonly beyond: number;
  readonly interrupt: number;
}

export const LEGACY_REASONS: SecondStageReasons = {
  top: Fault.CONTEXT_INVALID,
  access: Fault.SS_ACCESS,
  notPresentRead: Fault.NO_READ,
  notPresentWrite: Fault.NO_WRITE,
  reserved: Fault.SS_RESERVED,
  noRead: Fault.NO_READ,
  noWrite: Fault.NO_WRITE,
  beyond: Fault.BEYOND_WIDTH,
  interrupt: Fault.INTERRUPT_ADDRESS,
};

export const SCALABLE_REASONS: SecondStageReasons = {
  top: Fault.SM_SS_POINTER,
  access: Fault.SM_SS_ACCESS,
  notPresentRead: Fault.SM_SS_NOT_PRESENT,
  notPresentWrite: Fault.SM_SS_NOT_PRESENT,
  reserved: Fault.SM_SS_RESERVED,
  noRead: Fault.SM_NO_READ,
  noWrite: Fault.SM_NO_WRITE,
  beyond: Fault.SM_SS_BEYOND,
  interrupt: Fault.SM_INTERRUPT_ADDRESS,
};
