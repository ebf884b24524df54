// SPDX-License-Identifier: Apache-2.0
import type { IotlbGather } from '../generic_pt/gather.ts';
import type { FrameRun } from '../memory/frame.ts';
import type { Mm } from '../memory/mm.ts';
import type { Device } from './device.ts';
import type { FaultHandler } from './fault.ts';
import type { IommuOps } from './ops.ts';
import type { Invalidation, UserDataArray } from './user_data.ts';

export { IotlbGather } from '../generic_pt/gather.ts';
export { Prot } from '../generic_pt/prot.ts';

/** What a domain is. The numbers are Linux's (include/linux/iommu.h), where BLOCKED is 0. */
export const DomainType = {
  /** All DMA is blocked. */
  BLOCKED: 0,
  /** DMA addresses of the kernel's own drivers, managed by the kernel. */
  DMA: 0b11,
  /** DMA addresses are physical addresses. */
  IDENTITY: 0b100,
  /** Mapped by a user of the core: iommufd, VFIO. */
  UNMANAGED: 0b1,
  /** The address space of a process. */
  SVA: 0b1_0000,
  /** A stage 1 that a guest manages, on a stage 2. */
  NESTED: 0b100_0000,
} as const;
export type DomainType = (typeof DomainType)[keyof typeof DomainType];

/** `iovaToPhys` and `iovaToFrame` of an address without a translation. Not 0, which is an address like any other. */
export const NOT_MAPPED = -1n;
export const NO_FRAME = -1;

/** Dirty bits are read without clearing them. The number is Linux's IOMMU_DIRTY_NO_CLEAR. */
export const DIRTY_NO_CLEAR = 1;

/** What a domain carries for whoever manages it; it has at most one manager. */
export type DomainCookie =
  | { readonly kind: 'none' }
  /** iommufd's hardware page table; `mapMsi` is asked as `prepareMsi` of msi_cookie.ts describes. */
  | {
      readonly kind: 'iommufd';
      readonly hwpt: unknown;
      readonly mapMsi?: (device: Device, doorbell: bigint) => bigint | number;
    }
  /** Doorbells by their page, mapped one after another from `base`: see msi_cookie.ts. */
  | { readonly kind: 'msi'; readonly base: bigint; readonly pages: Map<bigint, bigint> };

export interface SealOptions {
  readonly faultHandler?: FaultHandler | undefined;
  readonly type?: DomainType;
}

/** An address space that devices can be attached to. Drivers derive theirs from `BaseDomain` (base_domain.ts). */
export interface Domain {
  readonly type: DomainType;
  /** Whose allocation it came from; undefined for a driver's one blocked or identity domain. */
  readonly owner: IommuOps | undefined;
  /** Who is told of page faults in it; decided at its creation, for good (A2). */
  readonly faultHandler: FaultHandler | undefined;
  /** Who manages it, for the fault handler and for iommufd. */
  cookie: DomainCookie;
  /**
   * Makes `device` translate its requests without PASID through this domain instead of `old`. 0, or a negative errno and
   * nothing has changed: EINVAL (this domain and this device do not fit, another domain may), ENOMEM, ENOSPC, EBUSY,
   * ENODEV. A domain that the device was attached to before is not refused. Core only calls it, with the group's lock held.
   */
  attachDev(device: Device, old: Domain | undefined): number;
  /** The same for one PASID; absent where the driver has none. The blocked domain's takes the PASID away and cannot fail. */
  setDevPasid?(device: Device, pasid: number, old: Domain | undefined): number;
  /**
   * For core, once, when a driver has made it: who owns it, who handles its faults (A2) and, for a paging domain, who
   * manages its addresses. Throws where it has been called before.
   */
  seal(owner: IommuOps, options?: SealOptions): void;
  /** Gives back its memory. No device is attached to it any more. */
  free(): void;
}

/** Dirty tracking of a domain that was allocated with it. */
export interface DirtyOps {
  /** 0, or a negative errno. */
  setTracking(enabled: boolean): number;
  /**
   * Calls `record` for each stretch of iova frames (ascending) that has been written to, and cleans it unless `flags` hold
   * {@link DIRTY_NO_CLEAR}. What is not mapped is passed over. 0, or -EINVAL, -EOVERFLOW, -ERANGE for a bad range. What was
   * cleaned is added to `gather`, to be flushed.
   */
  readAndClear(
    iova: bigint,
    frames: number,
    flags: number,
    gather: IotlbGather,
    record?: (iovaFrame: number, frames: number) => void,
  ): number;
}

/**
 * A domain with a page table that its user fills. Addresses are bytes at this border, lengths are in frames of 2 KiB, and
 * so is physical memory (memory/frame.ts).
 */
export interface PagingDomain extends Domain {
  readonly type: typeof DomainType.UNMANAGED | typeof DomainType.DMA;
  /** Bit n: pages of 2^n bytes can be used. The lowest bit is the alignment of everything that is mapped. */
  readonly pgsizeBitmap: bigint;
  /** The addresses that can be mapped; `apertureLast` is inclusive. */
  readonly apertureStart: bigint;
  readonly apertureLast: bigint;
  /** Undefined where dirty tracking was not asked for at allocation. */
  readonly dirty: DirtyOps | undefined;
  /**
   * Maps `frames` frames from `frame` on to addresses from `iova` on, choosing the largest pages that fit. All or nothing:
   * 0, or -EADDRINUSE (something is mapped there), -ENOMEM, -ENXIO (misaligned), -ERANGE (outside what the table can hold),
   * -EINVAL (neither READ nor WRITE, or no length), -EOVERFLOW.
   */
  map(iova: bigint, frame: number, frames: number, prot: number): number;
  /**
   * Unmaps and flushes; returns the frames unmapped from `iova` on. Fewer than asked where it came to an address that is not
   * mapped; more where the range ends inside a large entry, which goes as a whole. Starting inside one unmaps nothing.
   */
  unmap(iova: bigint, frames: number): number;
  /** As `unmap`, but the flush is left to `iotlbSync(gather)`, which must follow before the frames are used again. */
  unmapGathered(iova: bigint, frames: number, gather: IotlbGather): number;
  /** Tells the hardware what `gather` holds, frees the tables in it, and empties it. */
  iotlbSync(gather: IotlbGather): void;
  /** The physical address in bytes, or {@link NOT_MAPPED}. */
  iovaToPhys(iova: bigint): bigint;
  /** The frame that holds the byte at `iova`, or {@link NO_FRAME}. */
  iovaToFrame(iova: bigint): number;
  /** The frames mapped at `frames` frames from `iova`, contiguous ones joined; undefined where any is not mapped. */
  runs(iova: bigint, frames: number): FrameRun[] | undefined;
  /** From now on no DMA through it can bypass the caches; false where the hardware cannot. Absent: it never can. */
  enforceCacheCoherency?(): boolean;
}

/** The address space of a process, whole at its creation (A1). */
export interface SvaDomain extends Domain {
  readonly type: typeof DomainType.SVA;
  readonly mm: Mm;
}

/** A guest's first stage as its owner has described it: tables of x86-64 in the guest's memory, which is where `parent` has it. */
export interface GuestTable {
  readonly parent: PagingDomain;
  /** Page of 4 KiB of the top table. */
  readonly root: number;
  readonly levels: 4 | 5;
  /** What is read-only is so for privileged requests too. */
  readonly protectsWrites: boolean;
}

/** A user's (guest's) translation on top of a paging domain. */
export interface NestedDomain extends Domain {
  readonly type: typeof DomainType.NESTED;
  /** The table that hardware walks, for those who compare; absent where nothing walks one. */
  readonly guestTable?: GuestTable;
  /**
   * Makes the hardware forget what it has cached of the guest's translation, entry by entry; the first bad one ends it. An empty array
   * only has its type checked. Absent where the driver caches nothing, or takes this through a virtual IOMMU only.
   */
  invalidate?(array: UserDataArray): Invalidation;
}

/** Who wants to know what guests take for forgotten. */
export interface GuestWatcher {
  /**
   * A guest asks for invalidations of a type. When the driver is done, whoever is returned has the entries that it carried out, as it
   * read them.
   */
  invalidating(domain: NestedDomain, type: number): (entries: readonly Uint8Array[]) => void;
}

export const isPagingDomain = (domain: Domain): domain is PagingDomain => (domain.type & 1) !== 0;

export const isNestedDomain = (domain: Domain): domain is NestedDomain =>
  domain.type === DomainType.NESTED;

export const isSvaDomain = (domain: Domain): domain is SvaDomain => domain.type === DomainType.SVA;

/** Whether page faults in the domain are delivered: the question that drivers ask (A4). */
export const isFaultCapable = (domain: Domain): boolean => domain.faultHandler !== undefined;
