// SPDX-License-Identifier: Apache-2.0
/**
 * The registers of a VT-d unit as one table: offset, width, fields with access. What a write does to a field follows from its access;
 * what it sets going is in `vtd_unit.ts`. VTD-5.10 §11.4.1 to VTD-5.10 §11.4.11; what later revisions have no more (advanced
 * fault logging): Linux drivers/iommu/intel/iommu.h, VirtualBox include/VBox/iommu-intel.h, QEMU hw/i386/intel_iommu_internal.h.
 */
import { field, type Register, register } from '../../base/register.ts';

const ro = (msb: number, lsb = msb) => field(msb, lsb, { access: 'RO' });
const rw = (msb: number, lsb = msb) => field(msb, lsb, { access: 'RW' });
const rw1c = (msb: number, lsb = msb) => field(msb, lsb, { access: 'RW1C' });
const wo = (msb: number, lsb = msb) => field(msb, lsb, { access: 'WO' });

export const VER_REG = register('VER_REG', { MIN: ro(3, 0), MAX: ro(7, 4) });

export const CAP_REG = register(
  'CAP_REG',
  {
    /** Domain ids: 2^(4 + 2 ND). */
    ND: ro(2, 0),
    AFL: ro(3),
    RWBF: ro(4),
    PLMR: ro(5),
    PHMR: ro(6),
    CM: ro(7),
    /** Bit n: n + 2 levels, 30 + 9 n bits. */
    SAGAW: ro(12, 8),
    /** Widest input address, less one. */
    MGAW: ro(21, 16),
    ZLR: ro(22),
    /** Of the fault records, in units of 16 bytes. */
    FRO: ro(33, 24),
    /** Large pages of the second stage: 2 MiB, 1 GiB. */
    SSLPS: ro(37, 34),
    PSI: ro(39),
    NFR: ro(47, 40),
    MAMV: ro(53, 48),
    DWD: ro(54),
    DRD: ro(55),
    FS1GP: ro(56),
    PI: ro(59),
    FS5LP: ro(60),
    ECMDS: ro(61),
    ESIRTPS: ro(62),
    ESRTPS: ro(63),
  },
  { bits: 64 },
);

export const ECAP_REG = register(
  'ECAP_REG',
  {
    C: ro(0),
    QI: ro(1),
    DT: ro(2),
    IR: ro(3),
    EIM: ro(4),
    PT: ro(6),
    SC: ro(7),
    /** Of IVA_REG and IOTLB_REG, in units of 16 bytes. */
    IRO: ro(17, 8),
    MHMV: ro(23, 20),
    MTS: ro(25),
    NEST: ro(26),
    PRS: ro(29),
    ERS: ro(30),
    SRS: ro(31),
    NWFS: ro(33),
    EAFS: ro(34),
    PSS: ro(39, 35),
    PASID: ro(40),
    DIT: ro(41),
    PDS: ro(42),
    SMTS: ro(43),
    VCS: ro(44),
    SSADS: ro(45),
    SSTS: ro(46),
    FSTS: ro(47),
    SMPWCS: ro(48),
    RPS: ro(49),
    ADMS: ro(52),
    RPRIVS: ro(53),
  },
  { bits: 64 },
);

export const GCMD_REG = register('GCMD_REG', {
  TE: wo(31),
  SRTP: wo(30),
  SFL: wo(29),
  EAFL: wo(28),
  WBF: wo(27),
  QIE: wo(26),
  IRE: wo(25),
  SIRTP: wo(24),
  CFI: wo(23),
});

export const GSTS_REG = register('GSTS_REG', {
  TES: ro(31),
  RTPS: ro(30),
  FLS: ro(29),
  AFLS: ro(28),
  WBFS: ro(27),
  QIES: ro(26),
  IRES: ro(25),
  IRTPS: ro(24),
  CFIS: ro(23),
});

export const RTADDR_REG = register(
  'RTADDR_REG',
  { TTM: rw(11, 10), RTA: rw(63, 12) },
  { bits: 64 },
);

export const CCMD_REG = register(
  'CCMD_REG',
  {
    DID: rw(15, 0),
    SID: rw(31, 16),
    FM: rw(33, 32),
    CAIG: ro(60, 59),
    CIRG: rw(62, 61),
    ICC: rw(63),
  },
  { bits: 64 },
);

export const FSTS_REG = register('FSTS_REG', {
  PFO: rw1c(0),
  PPF: ro(1),
  AFO: ro(2),
  APF: ro(3),
  IQE: rw1c(4),
  ICE: rw1c(5),
  ITE: rw1c(6),
  FRI: ro(15, 8),
});

/** FECTL, IECTL and PECTL. */
export const EVENT_CTL_REG = register('ECTL_REG', { IP: ro(30), IM: rw(31) });
export const EVENT_DATA_REG = register('EDATA_REG', { IMD: rw(15, 0) });
export const EVENT_ADDR_REG = register('EADDR_REG', { MA: rw(31, 2) });
export const EVENT_UADDR_REG = register('EUADDR_REG', { MUA: rw(31, 0) });

export const PMEN_REG = register('PMEN_REG', { PRS: ro(0), EPM: rw(31) });

export const IQH_REG = register('IQH_REG', { QH: ro(18, 4) }, { bits: 64 });
export const IQT_REG = register('IQT_REG', { QT: rw(18, 4) }, { bits: 64 });
export const IQA_REG = register(
  'IQA_REG',
  { QS: rw(2, 0), DW: rw(11), IQA: rw(63, 12) },
  { bits: 64 },
);
export const ICS_REG = register('ICS_REG', { IWC: rw1c(0) });
export const IQERCD_REG = register(
  'IQERCD_REG',
  { IQEI: ro(3, 0), ITESID: ro(47, 32), ICESID: ro(63, 48) },
  { bits: 64 },
);

/** Page requests: head and tail in bytes, of descriptors of 32. */
export const PQH_REG = register('PQH_REG', { PQH: rw(18, 5) }, { bits: 64 });
export const PQT_REG = register('PQT_REG', { PQT: rw(18, 5) }, { bits: 64 });
export const PQA_REG = register('PQA_REG', { PQS: rw(2, 0), PQA: rw(63, 12) }, { bits: 64 });
export const PRS_REG = register('PRS_REG', { PPR: rw1c(0), PRO: rw1c(1) });

export const IVA_REG = register(
  'IVA_REG',
  { AM: wo(5, 0), IH: wo(6), ADDR: wo(63, 12) },
  { bits: 64 },
);
export const IOTLB_REG = register(
  'IOTLB_REG',
  { DID: rw(47, 32), DW: rw(48), DR: rw(49), IAIG: ro(58, 57), IIRG: rw(61, 60), IVT: rw(63) },
  { bits: 64 },
);

/** A fault record, low and high half. */
export const FRCD_LO = register('FRCD_REG.lo', { FI: ro(63, 12) }, { bits: 64 });
export const FRCD_HI = register(
  'FRCD_REG.hi',
  {
    SID: ro(15, 0),
    T2: ro(28),
    PRIV: ro(29),
    EXE: ro(30),
    PP: ro(31),
    FR: ro(39, 32),
    PV: ro(59, 40),
    AT: ro(61, 60),
    T1: ro(62),
    F: rw1c(63),
  },
  { bits: 64 },
);

/** Byte offsets of what is at the same place in every unit. */
export const Offset = {
  VER: 0x00,
  CAP: 0x08,
  ECAP: 0x10,
  GCMD: 0x18,
  GSTS: 0x1c,
  RTADDR: 0x20,
  CCMD: 0x28,
  FSTS: 0x34,
  FECTL: 0x38,
  FEDATA: 0x3c,
  FEADDR: 0x40,
  FEUADDR: 0x44,
  PMEN: 0x64,
  IQH: 0x80,
  IQT: 0x88,
  IQA: 0x90,
  ICS: 0x9c,
  IECTL: 0xa0,
  IEDATA: 0xa4,
  IEADDR: 0xa8,
  IEUADDR: 0xac,
  IQERCD: 0xb0,
  PQH: 0xc0,
  PQT: 0xc8,
  PQA: 0xd0,
  PRS: 0xdc,
  PECTL: 0xe0,
  PEDATA: 0xe4,
  PEADDR: 0xe8,
  PEUADDR: 0xec,
} as const;

// oxlint-disable-next-line typescript/no-explicit-any -- any table of fields
type AnyRegister = Register<any>;

/** Every register with its place. IVA, IOTLB and fault records follow where CAP and ECAP say. */
export const REGISTERS: readonly (readonly [offset: number, register: AnyRegister])[] = [
  [Offset.VER, VER_REG],
  [Offset.CAP, CAP_REG],
  [Offset.ECAP, ECAP_REG],
  [Offset.GCMD, GCMD_REG],
  [Offset.GSTS, GSTS_REG],
  [Offset.RTADDR, RTADDR_REG],
  [Offset.CCMD, CCMD_REG],
  [Offset.FSTS, FSTS_REG],
  [Offset.FECTL, EVENT_CTL_REG],
  [Offset.FEDATA, EVENT_DATA_REG],
  [Offset.FEADDR, EVENT_ADDR_REG],
  [Offset.FEUADDR, EVENT_UADDR_REG],
  [Offset.PMEN, PMEN_REG],
  [Offset.IQH, IQH_REG],
  [Offset.IQT, IQT_REG],
  [Offset.IQA, IQA_REG],
  [Offset.ICS, ICS_REG],
  [Offset.IECTL, EVENT_CTL_REG],
  [Offset.IEDATA, EVENT_DATA_REG],
  [Offset.IEADDR, EVENT_ADDR_REG],
  [Offset.IEUADDR, EVENT_UADDR_REG],
  [Offset.IQERCD, IQERCD_REG],
];

/** Those of page requests, which a unit has with ECAP.PRS. */
export const PAGE_REQUEST_REGISTERS: typeof REGISTERS = [
  [Offset.PQH, PQH_REG],
  [Offset.PQT, PQT_REG],
  [Offset.PQA, PQA_REG],
  [Offset.PRS, PRS_REG],
  [Offset.PECTL, EVENT_CTL_REG],
  [Offset.PEDATA, EVENT_DATA_REG],
  [Offset.PEADDR, EVENT_ADDR_REG],
  [Offset.PEUADDR, EVENT_UADDR_REG],
];

/** What IQERCD.IQEI says. */
export const Iqei = {
  NONE: 0,
  INVALID_TAIL: 1,
  FETCH: 2,
  INVALID_TYPE: 3,
  RESERVED_FIELD: 4,
  INVALID_WIDTH: 5,
  TAIL_MISALIGNED: 6,
  INVALID_TTM: 7,
} as const;
