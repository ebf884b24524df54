// SPDX-License-Identifier: Apache-2.0
import { Access, Allows } from './access.ts';
import type { Binding } from './binding.ts';
import type { Capabilities } from './capabilities.ts';
import { Fault } from './fault_reasons.ts';
import { Pgtt, type Scope } from './iotlb.ts';
import { PagingCache } from './paging_cache.ts';
import type { PhysicalMemory } from './physical_memory.ts';

/** Both of second-stage entries: read, write. */
const [SS_READ, SS_WRITE, SS_LARGE, SS_ACCESSED, SS_DIRTY, SS_SNOOP] = [
  1, 2, 0x80, 0x100, 0x200, 0x800,
];
const [FS_PRESENT, FS_WRITE, FS_USER, FS_ACCESSED, FS_DIRTY] = [1, 2, 4, 0x20, 0x40];
const [FS_LARGE, FS_EXTENDED] = [0x80, 0x400];
/** Bit 62 of a second-stage entry, reserved; bit 63 of a first-stage one: execute disable. */
const SS_RESERVED_HI = 0x4000_0000;
const XD = 0x8000_0000;

const ALL_FIRST =
  Allows.READ |
  Allows.WRITE |
  Allows.SUPERVISOR_WRITE |
  Allows.USER |
  Allows.EXECUTE |
  Allows.SUPERVISOR_EXECUTE;
const BOTH_WRITES = Allows.WRITE | Allows.SUPERVISOR_WRITE;
const BOTH_EXECUTES = Allows.EXECUTE | Allows.SUPERVISOR_EXECUTE;

/** The index into a table of `level`, from a page number in two parts of 26 bits. */
function indexAt(level: number, low: number, high: number): number {
  const shift = level * 9;
  return (shift < 26 ? (low >>> shift) | (high << (26 - shift)) : high >>> (shift - 26)) & 511;
}

/**
 * The page-table walks: one stage over the other, with the paging-structure caches. A walk answers 0 or the reason why it failed; what it
 * found is in `page`, `lg2` and `allows`. It reads at most 5 entries a stage, and 30 in both. Whether the access is allowed is judged where
 * the walk ends: a translation that is not there, or not valid, comes before one that does not allow (VTD-5.10 §3.6.1, VTD-5.10 §3.7.1).
 */
export class Walker {
  /** Page of 4 KiB that the address leads to; size of what maps it; {@link Allows}. */
  page = 0;
  lg2 = 0;
  allows = 0;
  readonly #caps: Capabilities;
  readonly #memory: PhysicalMemory;
  readonly #second = new PagingCache();
  readonly #first = new PagingCache();
  /** Reserved in high lanes: addresses beyond the hardware's. */
  readonly #beyondHaw: number;
  /** Reserved in low lanes of second-stage leaves. */
  readonly #leafReserved: number;
  /** Reserved in high lanes of the second stage. */
  readonly #reservedHi: number;

  constructor(caps: Capabilities, memory: PhysicalMemory) {
    this.#caps = caps;
    this.#memory = memory;
    this.#beyondHaw = caps.haw >= 52 ? 0 : ((0xffff_ffff << (caps.haw - 32)) & 0xf_ffff) >>> 0;
    this.#leafReserved = caps.hasSnoopControl ? 0 : SS_SNOOP;
    this.#reservedHi = this.#beyondHaw | SS_RESERVED_HI;
  }

  clear(): void {
    this.#second.clear();
    this.#first.clear();
  }

  invalidate(scope: Scope): void {
    this.#second.invalidate(scope, false);
    this.#first.invalidate(scope, true);
  }

  /**
   * The last walk ended at an entry of the second stage that is not present: what caching mode caches. A page that is there and does not
   * allow an access is no such, and neither is what a first stage has not.
   */
  foundNothing = false;

  walk(binding: Binding, lo: number, hi: number, access: number): number {
    this.foundNothing = false;
    return binding.pgtt === Pgtt.SECOND
      ? this.#walkSecond(binding, lo, hi, access)
      : this.#walkFirst(binding, lo, hi, access, true);
  }

  #walkSecond(binding: Binding, lo: number, hi: number, access: number): number {
    const { reasons, did, ssEnd, ssade, snoopsWalk } = binding;
    const page = hi * 2 ** 20 + (lo >>> 12);
    if (page >= ssEnd) return reasons.beyond;
    const write = (access & Access.WRITE) !== 0;
    const need = write ? ((access & Access.ATOMIC) !== 0 ? 3 : SS_WRITE) : SS_READ;
    const low = ((hi & 0x3f) << 20) | (lo >>> 12);
    const high = hi >>> 6;
    const cache = this.#second;
    const memory = this.#memory;
    const { entry } = memory;
    let level = binding.ssLevels - 1;
    let table = binding.ssTop;
    let allows = SS_READ | SS_WRITE;
    const top = level;
    for (let at = 1; at <= top; at++) {
      const slot = cache.find(at, page, did, -1);
      if (slot < 0) continue;
      table = cache.table(slot);
      allows = cache.allows(slot);
      level = at - 1;
      break;
    }
    for (;;) {
      const index = indexAt(level, low, high);
      if (!memory.read(table, index, snoopsWalk)) {
        return level === top ? reasons.top : reasons.access;
      }
      const entryLo = entry[0] ?? 0;
      const entryHi = entry[1] ?? 0;
      this.foundNothing = (entryLo & 3) === 0;
      if (this.foundNothing) return write ? reasons.notPresentWrite : reasons.notPresentRead;
      const isLeaf = level === 0 || (entryLo & SS_LARGE) !== 0;
      if (isLeaf) {
        if (level !== 0 && this.#isBadLargeSecond(level, entryLo)) return reasons.reserved;
        if ((entryLo & this.#leafReserved) !== 0) return reasons.reserved;
      } else if ((entryLo & SS_SNOOP) !== 0) {
        return reasons.reserved;
      }
      if ((entryHi & this.#reservedHi) !== 0) return reasons.reserved;
      allows &= entryLo;
      if (isLeaf && (allows & need) !== need) {
        if ((allows & 3) === 0) return write ? reasons.notPresentWrite : reasons.notPresentRead;
        return (need & SS_WRITE & ~allows) !== 0 ? reasons.noWrite : reasons.noRead;
      }
      if (ssade) {
        const bits = SS_ACCESSED | (isLeaf && write ? SS_DIRTY : 0);
        if ((entryLo & bits) !== bits) {
          if (!snoopsWalk) return Fault.SM_SS_UPDATE_NO_SNOOP;
          if (!memory.setBits(table, index, bits)) return Fault.SM_SS_UPDATE_FAILED;
        }
      }
      const target = (entryHi & 0xf_ffff) * 2 ** 20 + (entryLo >>> 12);
      if (isLeaf) {
        this.page = target + (level === 0 ? 0 : low & (level === 1 ? 0x1ff : 0x3_ffff));
        this.lg2 = level * 9;
        const isDirty = !ssade || write || (entryLo & SS_DIRTY) !== 0;
        this.allows =
          Allows.USER |
          BOTH_EXECUTES |
          (allows & SS_READ) |
          ((allows & SS_WRITE) !== 0 ? BOTH_WRITES : 0) |
          (isDirty ? Allows.DIRTY : 0) |
          ((entryLo & SS_SNOOP) !== 0 ? Allows.SNOOP : 0);
        return 0;
      }
      cache.put(level, page, did, -1, false, target, allows);
      table = target;
      level--;
    }
  }

  #isBadLargeSecond(level: number, lo: number): boolean {
    const { largePages } = this.#caps;
    if (level === 1) return (largePages & 1) === 0 || (lo & 0x1f_f000) !== 0;
    if (level === 2) return (largePages & 2) === 0 || (lo & 0x3fff_f000) !== 0;
    return true;
  }

  #isBadLargeFirst(level: number, lo: number): boolean {
    if (level === 1) return (lo & 0x1f_e000) !== 0;
    if (level === 2) return !this.#caps.firstStage1G || (lo & 0x3fff_e000) !== 0;
    return true;
  }

  /** A guest's page through the second stage. 0 or a reason. */
  #below(binding: Binding, page: number, access: number): number {
    const hi = Math.floor(page / 2 ** 20);
    return this.#walkSecond(binding, ((page - hi * 2 ** 20) * 4096) >>> 0, hi, access);
  }

  /** Where a table of the first stage is in memory, in `page`. Where the second stage keeps A and D, reading it takes writing too. */
  #readsTable(binding: Binding, own: number, isTop: boolean): number {
    const reason = this.#below(binding, own, Access.READ);
    if (reason === Fault.SM_NO_READ) return isTop ? Fault.SM_FS_TOP_NO_READ : Fault.SM_FS_NO_READ;
    if (reason === 0 && binding.ssade && (this.allows & Allows.WRITE) === 0)
      return Fault.SM_FS_NO_WRITE;
    return reason;
  }

  #walkFirst(binding: Binding, lo: number, hi: number, access: number, usesCache: boolean): number {
    const { did, tlbPasid, snoopsWalk } = binding;
    const top = binding.fsLevels - 1;
    const sign = top === 3 ? hi >>> 15 : hi >>> 24;
    if (sign !== 0 && sign !== (top === 3 ? 0x1_ffff : 0xff)) return Fault.SM_NOT_CANONICAL;
    const isNested = binding.pgtt === Pgtt.NESTED;
    const page = hi * 2 ** 20 + (lo >>> 12);
    const low = ((hi & 0x3f) << 20) | (lo >>> 12);
    const high = hi >>> 6;
    const write = (access & Access.WRITE) !== 0;
    const cache = this.#first;
    const memory = this.#memory;
    const { entry } = memory;
    let level = top;
    // As the first stage has it, and as memory has it; the first is not known where the second comes out of the cache.
    let own = binding.fsTop;
    let table = -1;
    let allows: number = ALL_FIRST;
    for (let at = usesCache ? 1 : top + 1; at <= top; at++) {
      const slot = cache.find(at, page, did, tlbPasid);
      if (slot < 0) continue;
      table = cache.table(slot);
      allows = cache.allows(slot);
      own = -1;
      level = at - 1;
      break;
    }
    for (;;) {
      if (table < 0) {
        table = own;
        if (isNested) {
          const reason = this.#readsTable(binding, own, level === top);
          if (reason !== 0) return reason;
          table = this.page;
        }
      }
      const index = indexAt(level, low, high);
      if (!memory.read(table, index, snoopsWalk)) {
        return level === top ? Fault.SM_FS_TOP_ACCESS : Fault.SM_FS_ACCESS;
      }
      const entryLo = entry[0] ?? 0;
      const entryHi = entry[1] ?? 0;
      if ((entryLo & FS_PRESENT) === 0) return Fault.SM_FS_NOT_PRESENT;
      const isLeaf = level === 0 || (entryLo & FS_LARGE) !== 0;
      if ((entryHi & this.#beyondHaw) !== 0) return Fault.SM_FS_RESERVED;
      if (isLeaf && level !== 0 && this.#isBadLargeFirst(level, entryLo))
        return Fault.SM_FS_RESERVED;
      const target = (entryHi & 0xf_ffff) * 2 ** 20 + (entryLo >>> 12);
      if (isNested && target >= binding.ssEnd) return Fault.SM_FS_BEYOND_MGAW;
      if ((entryLo & FS_WRITE) === 0) allows &= binding.wpe ? ~BOTH_WRITES : ~Allows.WRITE;
      if ((entryLo & FS_USER) === 0) allows &= ~Allows.USER;
      if ((entryHi & XD) !== 0) allows &= ~BOTH_EXECUTES;
      const refusal = isLeaf ? refusalOf(allows, access) : 0;
      if (refusal !== 0) return refusal;
      const bits =
        FS_ACCESSED | (binding.eafe ? FS_EXTENDED : 0) | (isLeaf && write ? FS_DIRTY : 0);
      if ((entryLo & bits) !== bits) {
        if (!snoopsWalk) return Fault.SM_FS_UPDATE_NO_SNOOP;
        if (isNested) {
          // The update is a write of its own, which the second stage has to allow; that needs the table's own address.
          if (own < 0) return this.#walkFirst(binding, lo, hi, access, false);
          const reason = this.#below(binding, own, Access.WRITE);
          if (reason === Fault.SM_NO_WRITE) return Fault.SM_FS_NO_WRITE;
          if (reason !== 0) return reason;
        }
        if (!memory.setBits(table, index, bits)) return Fault.SM_FS_UPDATE_FAILED;
      }
      if (isLeaf) {
        const within = level === 0 ? 0 : low & (level === 1 ? 0x1ff : 0x3_ffff);
        // Bit 12 of a large leaf is PAT.
        const base = level === 0 ? target : target - (target % 2);
        const isDirty = write || (entryLo & FS_DIRTY) !== 0;
        return this.#finish(
          binding,
          base + within,
          level * 9,
          allows | (isDirty ? Allows.DIRTY : 0),
          access,
        );
      }
      own = target;
      table = target;
      if (isNested) {
        const reason = this.#readsTable(binding, own, false);
        if (reason !== 0) return reason;
        table = this.page;
      }
      cache.put(level, page, did, tlbPasid, isNested, table, allows);
      level--;
    }
  }

  /** The first stage's result, through the second where there is one. */
  #finish(binding: Binding, page: number, lg2: number, allows: number, access: number): number {
    this.page = page;
    this.lg2 = lg2;
    this.allows = allows;
    if (binding.pgtt !== Pgtt.NESTED) return 0;
    const reason = this.#below(binding, page, access & (Access.WRITE | Access.ATOMIC));
    if (reason !== 0) return reason;
    this.lg2 = Math.min(this.lg2, lg2);
    this.allows &= allows | Allows.SNOOP;
    return 0;
  }
}

/** Why what a first stage allows does not do; 0 where it does. */
export function refusalOf(allows: number, access: number): number {
  const isSupervisor = (access & Access.PRIVILEGED) !== 0;
  if (!isSupervisor && (allows & Allows.USER) === 0) return Fault.SM_NOT_USER;
  if ((access & Access.WRITE) !== 0) {
    const need = isSupervisor ? Allows.SUPERVISOR_WRITE : Allows.WRITE;
    if ((allows & need) === 0) return Fault.SM_NO_WRITE;
  }
  if ((access & Access.EXECUTE) !== 0 && (allows & Allows.EXECUTE) === 0)
    return Fault.SM_NO_EXECUTE;
  return 0;
}
