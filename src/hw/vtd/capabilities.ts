// SPDX-License-Identifier: Apache-2.0
import type { RegisterField } from '../../base/register.ts';
import { hi, lo, toBigint } from '../../base/u64.ts';
import { CAP_REG, ECAP_REG } from './registers.ts';

type Values<R extends { readonly fields: Readonly<Record<string, RegisterField>> }> = Partial<
  Readonly<Record<keyof R['fields'], number>>
>;

/** What a machine chooses of a unit: fields of its capability registers by name, the rest 0. */
export interface VtdDescription {
  readonly cap: Values<typeof CAP_REG>;
  readonly ecap: Values<typeof ECAP_REG>;
  /** Width of physical addresses. Default 52. */
  readonly haw?: number;
  /** Faults of a requester that has one recorded already are not recorded again, as QEMU does it. */
  readonly collapsesFaults?: boolean;
  /**
   * Page requests can carry private data, which answers bring back. Revisions up to 4 have it, without a capability bit; VTD-5.10 has not.
   * Source: Linux 6.5 drivers/iommu/intel/svm.c (unverified).
   */
  readonly hasPrivateData?: boolean;
}

/** A register with fields set, by name; names of other registers are passed over. RangeError where a value does not fit. */
export function withFields(
  register: bigint,
  fields: Readonly<Record<string, RegisterField>>,
  values: Readonly<Record<string, number | undefined>>,
): bigint {
  let [low, high] = [lo(register), hi(register)];
  for (const [name, value] of Object.entries(values)) {
    const one = fields[name];
    if (one === undefined || value === undefined) continue;
    [low, high] = [one.setLo(low, value), one.setHi(high, value)];
  }
  return toBigint(low, high);
}

/** Legacy mode, 3 and 4 levels, all page sizes, coherent, 8 fault records. */
export const LEGACY: VtdDescription = {
  cap: {
    ND: 6,
    SAGAW: 0b00110,
    MGAW: 47,
    FRO: 0x40,
    SSLPS: 3,
    PSI: 1,
    NFR: 7,
    MAMV: 18,
    DWD: 1,
    DRD: 1,
    ESRTPS: 0,
  },
  ecap: { C: 1, QI: 1, PT: 1, SC: 1, IRO: 0x50 },
};

/** Both stages, nested, 4 and 5 levels, PASIDs of 20 bits, translation requests (ATS); no page requests. */
export const SCALABLE: VtdDescription = {
  cap: { ...LEGACY.cap, SAGAW: 0b01110, MGAW: 56, FS1GP: 1, FS5LP: 1 },
  ecap: {
    ...LEGACY.ecap,
    DT: 1,
    NEST: 1,
    ERS: 1,
    SRS: 1,
    EAFS: 1,
    PSS: 19,
    PASID: 1,
    SMTS: 1,
    SSADS: 1,
    SSTS: 1,
    FSTS: 1,
    SMPWCS: 1,
    RPS: 1,
    RPRIVS: 1,
  },
};

/** The same with page requests, their drain, and invalidations throttled by physical function: what shared address spaces need. */
export const SHARING: VtdDescription = {
  ...SCALABLE,
  ecap: { ...SCALABLE.ecap, PRS: 1, PDS: 1, DIT: 1 },
};

/** The capability registers of a unit, and what the walkers take from them as plain numbers. */
export class Capabilities {
  readonly cap: bigint;
  readonly ecap: bigint;
  readonly haw: number;
  readonly collapsesFaults: boolean;
  readonly hasPrivateData: boolean;
  readonly domainMask: number;
  readonly hasCachingMode: boolean;
  readonly sagaw: number;
  /** Bits of the widest table's addresses. */
  readonly widestTable: number;
  readonly mgaw: number;
  readonly recordsAt: number;
  readonly records: number;
  readonly largePages: number;
  readonly firstStage1G: boolean;
  readonly fiveLevels: boolean;
  readonly hasPageInvalidation: boolean;
  readonly maxMask: number;
  readonly clearsOnSrtp: boolean;
  readonly hasProtectedRegions: boolean;
  readonly needsWriteFlush: boolean;
  readonly isCoherent: boolean;
  readonly hasQueue: boolean;
  readonly hasDeviceTlbs: boolean;
  readonly hasPassThrough: boolean;
  readonly hasSnoopControl: boolean;
  readonly iotlbAt: number;
  readonly hasNesting: boolean;
  readonly hasPageRequests: boolean;
  /** Waits can drain page requests (PDS). */
  readonly hasPageDrain: boolean;
  /** Descriptors for device TLBs name the physical function (DIT). */
  readonly hasDeviceTlbThrottle: boolean;
  /** PASIDs from here on are too large (PSS). */
  readonly pasidEnd: number;
  readonly hasExecute: boolean;
  readonly hasSupervisor: boolean;
  readonly hasExtendedAccess: boolean;
  readonly hasPasid: boolean;
  readonly hasMemoryTypes: boolean;
  readonly isScalable: boolean;
  readonly hasSecondStageDirty: boolean;
  readonly hasSecondStage: boolean;
  readonly hasFirstStage: boolean;
  readonly walksCoherently: boolean;
  readonly hasRidPasid: boolean;
  readonly hasRidPriv: boolean;

  /** From the registers as they read: what another unit says, this one says too. */
  constructor(cap: bigint, ecap: bigint, beside: Omit<VtdDescription, 'cap' | 'ecap'> = {}) {
    const { haw = 52, collapsesFaults = false, hasPrivateData = false } = beside;
    const [capLo, capHi, ecapLo, ecapHi] = [lo(cap), hi(cap), lo(ecap), hi(ecap)];
    const c = (name: keyof typeof CAP_REG.fields): number => CAP_REG.fields[name].get(capLo, capHi);
    const e = (name: keyof typeof ECAP_REG.fields): number =>
      ECAP_REG.fields[name].get(ecapLo, ecapHi);
    this.cap = cap;
    this.ecap = ecap;
    this.haw = haw;
    this.collapsesFaults = collapsesFaults;
    this.hasPrivateData = hasPrivateData;
    this.domainMask = 2 ** Math.min(4 + 2 * c('ND'), 16) - 1;
    this.hasCachingMode = c('CM') === 1;
    this.sagaw = c('SAGAW');
    this.widestTable = this.sagaw === 0 ? 64 : 30 + 9 * (31 - Math.clz32(this.sagaw));
    this.mgaw = c('MGAW') + 1;
    this.recordsAt = c('FRO') * 16;
    this.records = c('NFR') + 1;
    this.largePages = c('SSLPS');
    this.firstStage1G = c('FS1GP') === 1;
    this.fiveLevels = c('FS5LP') === 1;
    this.hasPageInvalidation = c('PSI') === 1;
    this.maxMask = c('MAMV');
    this.clearsOnSrtp = c('ESRTPS') === 1;
    this.hasProtectedRegions = c('PLMR') === 1 || c('PHMR') === 1;
    this.needsWriteFlush = c('RWBF') === 1;
    this.isCoherent = e('C') === 1;
    this.hasQueue = e('QI') === 1;
    this.hasDeviceTlbs = e('DT') === 1;
    this.hasPassThrough = e('PT') === 1;
    this.hasSnoopControl = e('SC') === 1;
    this.iotlbAt = e('IRO') * 16;
    this.hasNesting = e('NEST') === 1;
    this.hasPageRequests = e('PRS') === 1;
    this.hasPageDrain = e('PDS') === 1;
    this.hasDeviceTlbThrottle = e('DIT') === 1;
    this.pasidEnd = 2 ** Math.min(e('PSS') + 1, 20);
    this.hasExecute = e('ERS') === 1;
    this.hasSupervisor = e('SRS') === 1;
    this.hasExtendedAccess = e('EAFS') === 1;
    this.hasPasid = e('PASID') === 1;
    this.hasMemoryTypes = e('MTS') === 1;
    this.isScalable = e('SMTS') === 1;
    this.hasSecondStageDirty = e('SSADS') === 1;
    this.hasSecondStage = e('SSTS') === 1;
    this.hasFirstStage = e('FSTS') === 1;
    this.walksCoherently = e('SMPWCS') === 1;
    this.hasRidPasid = e('RPS') === 1;
    this.hasRidPriv = e('RPRIVS') === 1;
  }

  static of(description: VtdDescription): Capabilities {
    return new Capabilities(
      withFields(0n, CAP_REG.fields, description.cap),
      withFields(0n, ECAP_REG.fields, description.ecap),
      description,
    );
  }
}
