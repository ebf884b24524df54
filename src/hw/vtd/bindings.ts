// SPDX-License-Identifier: Apache-2.0
import { Access, NO_PASID } from './access.ts';
import { Binding, Context, type RequesterContext } from './binding.ts';
import type { Capabilities } from './capabilities.ts';
import { Fault, SCALABLE_REASONS } from './fault_reasons.ts';
import { Pgtt } from './iotlb.ts';
import type { PhysicalMemory } from './physical_memory.ts';

const CONTEXT_LINES = 256;
const PASID_LINES = 1024;

/**
 * From a requester (and PASID) to how it is translated: root, context, PASID directory and PASID table entries, and the caches of the
 * last two: VTD-5.10 §9.1 to VTD-5.10 §9.6. What Linux writes although a unit without second stage has it reserved, AW of a PASID entry,
 * is let pass.
 */
export class Bindings {
  readonly #caps: Capabilities;
  readonly #memory: PhysicalMemory;
  /** Bits of a high lane that are above the physical addresses. */
  readonly #beyondHaw: number;
  readonly #contexts: (Context | undefined)[] = Array.from({ length: CONTEXT_LINES });
  readonly #pasids: (Binding | undefined)[] = Array.from({ length: PASID_LINES });
  /** Translation table mode and root table, as SRTP took them. */
  #mode = 0;
  #root = 0;

  constructor(caps: Capabilities, memory: PhysicalMemory) {
    this.#caps = caps;
    this.#memory = memory;
    this.#beyondHaw = caps.haw >= 64 ? 0 : (0xffff_ffff << (caps.haw - 32)) >>> 0;
  }

  get isScalable(): boolean {
    return this.#mode === 1;
  }

  get isLegacy(): boolean {
    return this.#mode === 0;
  }

  get takesWide(): boolean {
    return this.#caps.isScalable;
  }

  /** The unit has the mode that was asked for. */
  get isKnown(): boolean {
    return this.#mode === 0 || (this.#mode === 1 && this.#caps.isScalable);
  }

  /** The page of the root table. */
  get root(): number {
    return this.#root;
  }

  setRoot(mode: number, page: number): void {
    this.#mode = mode;
    this.#root = page;
  }

  clearContexts(): void {
    this.#contexts.fill(undefined);
  }

  clearPasids(): void {
    this.#pasids.fill(undefined);
  }

  /** Context entries of a domain: in scalable mode, where they have none, all. */
  forgetDomain(did: number): void {
    if (this.isScalable) this.clearContexts();
    else this.#dropContexts((one) => one.did === did);
  }

  /** Those of a requester; `mask` (FM) leaves out 0, 1, 2 or 3 bits of its function, highest first. */
  forgetRequester(sid: number, mask: number): void {
    const keep = [0xffff, 0xfffb, 0xfff9, 0xfff8][mask] ?? 0xffff;
    this.#dropContexts((one) => (one.sid & keep) === (sid & keep));
  }

  /** PASID table entries of a domain: of one PASID or, undefined, of all. */
  forgetPasids(did: number, pasid: number | undefined): void {
    const lines = this.#pasids;
    // Not by an iterator, which takes 4 us.
    for (let i = 0; i < PASID_LINES; i++) {
      const one = lines[i];
      if (one !== undefined && one.did === did && (pasid === undefined || one.pasid === pasid))
        lines[i] = undefined;
    }
  }

  /** The context entry of a requester. */
  context(sid: number): RequesterContext {
    const held = this.#contexts[(sid ^ (sid >>> 8)) & (CONTEXT_LINES - 1)];
    return held?.sid === sid ? held : this.#readContext(sid);
  }

  /** How a request is translated; `pasid` -1 for none. */
  find(sid: number, pasid: number): Binding {
    let context = this.#contexts[(sid ^ (sid >>> 8)) & (CONTEXT_LINES - 1)];
    if (context === undefined || context.sid !== sid) context = this.#readContext(sid);
    if (context.binding !== undefined && pasid === NO_PASID) return context.binding;
    if (context.fault !== 0) return this.#refusal(context, pasid, context.fault);
    if (this.#mode !== 1) return this.#refusal(context, pasid, Fault.SM_PASID_IN_LEGACY);
    const isPlain = pasid === NO_PASID;
    if (!isPlain) {
      const reason = this.#pasidRefusal(context, pasid);
      if (reason !== 0) return this.#refusal(context, pasid, reason);
    }
    const wanted = isPlain ? context.ridPasid : pasid;
    const line = this.#pasids[(wanted ^ (sid << 2)) & (PASID_LINES - 1)];
    if (line !== undefined && line.sid === sid && line.pasid === wanted) {
      const isPrivileged = isPlain && context.ridPriv;
      if (isPrivileged === (line.addedAccess !== 0)) return line;
    }
    return this.#readPasid(context, wanted, isPlain);
  }

  /** Why a request with a PASID is refused before any entry of it is looked at; else 0. */
  #pasidRefusal(context: Context, pasid: number): number {
    if (!context.pasids) return Fault.SM_PASID_DISABLED;
    if (pasid >>> 6 >= context.directoryEntries) return Fault.SM_PASID_TOO_LARGE;
    if (pasid === context.ridPasid) return Fault.SM_RID_PASID;
    return pasid >= this.#caps.pasidEnd ? Fault.SM_PASID_BEYOND_PSS : 0;
  }

  #refusal(context: Context, pasid: number, reason: number): Binding {
    const refused = new Binding(context.sid, Math.max(pasid, 0));
    refused.fault = reason;
    if (this.#mode === 0 && pasid !== NO_PASID) refused.fault = Fault.SM_PASID_IN_LEGACY;
    refused.fpd = context.fpd;
    return refused;
  }

  #dropContexts(isMeant: (one: Context) => boolean): void {
    const lines = this.#contexts;
    for (let i = 0; i < CONTEXT_LINES; i++) {
      const one = lines[i];
      if (one !== undefined && isMeant(one)) lines[i] = undefined;
    }
  }

  #readContext(sid: number): Context {
    const context = new Context(sid);
    const mode = this.#mode;
    if (mode === 0) this.#readLegacy(context);
    else if (mode === 1 && this.#caps.isScalable) this.#readScalable(context);
    else context.fault = Fault.SM_ROOT_POINTER;
    if (context.fault === 0 || this.#caps.hasCachingMode) {
      this.#contexts[(sid ^ (sid >>> 8)) & (CONTEXT_LINES - 1)] = context;
    }
    return context;
  }

  /** Reads an entry of 64 bits; its lanes are in `memory.entry`. */
  #read(page: number, index: number): boolean {
    return this.#memory.read(page, index, this.#caps.isCoherent);
  }

  get #lo(): number {
    return this.#memory.entry[0] ?? 0;
  }

  get #hi(): number {
    return this.#memory.entry[1] ?? 0;
  }

  /** The page that the entry just read points to. */
  get #pointer(): number {
    return this.#hi * 2 ** 20 + (this.#lo >>> 12);
  }

  #readLegacy(context: Context): void {
    const { sid } = context;
    context.fault = this.#legacyRoot(sid >>> 8);
    if (context.fault !== 0) return;
    const table = this.#pointer;
    const index = (sid & 0xff) * 2;
    if (!this.#read(table, index)) {
      context.fault = Fault.CONTEXT_ACCESS;
      return;
    }
    const [lo, hi, top] = [this.#lo, this.#hi, this.#pointer];
    this.#read(table, index + 1);
    const [lo2, hi2] = [this.#lo, this.#hi];
    context.fpd = (lo & 2) !== 0;
    const binding = new Binding(sid, 0);
    binding.fpd = context.fpd;
    context.fault = this.#legacyContext(binding, [lo, hi, lo2, hi2], top);
    context.ats = binding.allowsAts;
    binding.fault = context.fault;
    context.did = (lo & 1) === 0 ? 0 : binding.did;
    context.binding = binding;
  }

  #legacyRoot(bus: number): number {
    if (!this.#read(this.#root, bus * 2)) return Fault.ROOT_ACCESS;
    const [lo, hi] = [this.#lo, this.#hi];
    if ((lo & 1) === 0) return Fault.ROOT_NOT_PRESENT;
    if ((lo & 0xffe) !== 0 || (hi & this.#beyondHaw) !== 0) return Fault.ROOT_RESERVED;
    this.#read(this.#root, bus * 2 + 1);
    if ((this.#lo | this.#hi) !== 0) return Fault.ROOT_RESERVED;
    this.#read(this.#root, bus * 2);
    return 0;
  }

  #legacyContext(binding: Binding, words: readonly number[], top: number): number {
    const [lo = 0, hi = 0, lo2 = 0, hi2 = 0] = words;
    const caps = this.#caps;
    if ((lo & 1) === 0) return Fault.CONTEXT_NOT_PRESENT;
    const type = (lo >>> 2) & 3;
    binding.did = (lo2 >>> 8) & caps.domainMask;
    if ((lo & 0xff0) !== 0 || (lo2 & 0xff00_0080) !== 0 || hi2 !== 0) return Fault.CONTEXT_RESERVED;
    if (((lo2 >>> 8) & 0xffff & ~caps.domainMask) !== 0) return Fault.CONTEXT_RESERVED;
    if (type !== 2 && (hi & this.#beyondHaw) !== 0) return Fault.CONTEXT_RESERVED;
    const width = lo2 & 7;
    if (!this.#hasWidth(width) || type === 3) return Fault.CONTEXT_INVALID;
    if (type === 1 && !caps.hasDeviceTlbs) return Fault.CONTEXT_INVALID;
    if (type === 2 && !caps.hasPassThrough) return Fault.CONTEXT_INVALID;
    binding.allowsAts = type === 1;
    binding.pgtt = type === 2 ? Pgtt.PASS_THROUGH : Pgtt.SECOND;
    binding.snoopsWalk = caps.isCoherent;
    this.#setSecondStage(binding, width, top);
    return 0;
  }

  #hasWidth(width: number): boolean {
    return width <= 3 && ((this.#caps.sagaw >>> width) & 1) !== 0;
  }

  #setSecondStage(binding: Binding, width: number, top: number): void {
    binding.ssTop = top;
    binding.ssLevels = width + 2;
    binding.ssEnd = 2 ** (Math.min(30 + 9 * width, this.#caps.mgaw) - 12);
    binding.tag = binding.did | (binding.pgtt << 16);
  }

  #readScalable(context: Context): void {
    const { sid } = context;
    const caps = this.#caps;
    const half = (sid >>> 7) & 1;
    if (!this.#read(this.#root, (sid >>> 8) * 2 + half)) context.fault = Fault.SM_ROOT_ACCESS;
    else if ((this.#lo & 1) === 0) context.fault = Fault.SM_ROOT_NOT_PRESENT;
    else if ((this.#lo & 0xffe) !== 0 || (this.#hi & this.#beyondHaw) !== 0) {
      context.fault = Fault.SM_ROOT_RESERVED;
    }
    if (context.fault !== 0) return;
    const table = this.#pointer;
    const index = (sid & 0x7f) * 4;
    if (!this.#read(table, index)) {
      context.fault = Fault.SM_CONTEXT_ACCESS;
      return;
    }
    const [lo, hi] = [this.#lo, this.#hi];
    context.fpd = (lo & 2) !== 0;
    context.directory = this.#pointer;
    let rest = 0;
    for (const at of [2, 3]) {
      this.#read(table, index + at);
      rest |= this.#lo | this.#hi;
    }
    this.#read(table, index + 1);
    const [lo2, hi2] = [this.#lo, this.#hi];
    context.directoryEntries = 2 ** (((lo >>> 9) & 7) + 7);
    context.ridPasid = lo2 & 0xf_ffff;
    context.ridPriv = (lo2 & 0x10_0000) !== 0;
    context.ats = (lo & 4) !== 0;
    context.pasids = (lo & 8) !== 0;
    const asksPages = (lo & 0x10) !== 0;
    const reserved =
      (lo & 0x1e0) |
      (hi & this.#beyondHaw) |
      (lo2 & 0xffe0_0000) |
      hi2 |
      rest |
      (caps.hasRidPasid ? 0 : context.ridPasid) |
      (context.ridPriv && !caps.hasRidPriv ? 1 : 0) |
      (context.ats && !caps.hasDeviceTlbs ? 1 : 0) |
      (asksPages && !caps.hasPageRequests ? 1 : 0) |
      (context.pasids && !caps.hasPasid ? 1 : 0);
    context.pages = asksPages;
    if ((lo & 1) === 0) context.fault = Fault.SM_CONTEXT_NOT_PRESENT;
    else if (reserved !== 0) context.fault = Fault.SM_CONTEXT_RESERVED;
    else if ((asksPages && !context.ats) || context.ridPasid >>> 6 >= context.directoryEntries) {
      context.fault = Fault.SM_CONTEXT_INVALID;
    }
  }

  #readPasid(context: Context, pasid: number, isPlain: boolean): Binding {
    const binding = new Binding(context.sid, pasid);
    binding.fpd = context.fpd;
    binding.reasons = SCALABLE_REASONS;
    binding.allowsAts = context.ats;
    if (isPlain && context.ridPriv) binding.addedAccess = Access.PRIVILEGED;
    binding.fault = this.#pasidEntry(context, binding);
    if (binding.fault === 0 || this.#caps.hasCachingMode) {
      this.#pasids[(pasid ^ (context.sid << 2)) & (PASID_LINES - 1)] = binding;
    }
    return binding;
  }

  #pasidEntry(context: Context, binding: Binding): number {
    const { pasid } = binding;
    const slot = pasid >>> 6;
    if (!this.#read(context.directory + (slot >>> 9), slot & 511)) return Fault.SM_DIRECTORY_ACCESS;
    const directory = this.#lo;
    binding.fpd ||= (directory & 2) !== 0;
    if ((directory & 1) === 0) return Fault.SM_DIRECTORY_NOT_PRESENT;
    if ((directory & 0xffc) !== 0 || (this.#hi & this.#beyondHaw) !== 0)
      return Fault.SM_DIRECTORY_RESERVED;
    const table = this.#pointer;
    const words: number[] = [];
    for (let i = 0; i < 8; i++) {
      if (!this.#read(table, (pasid & 63) * 8 + i)) return Fault.SM_PASID_ACCESS;
      words.push(this.#lo, this.#hi);
    }
    binding.fpd ||= ((words[0] ?? 0) & 2) !== 0;
    if (((words[0] ?? 0) & 1) === 0) return Fault.SM_PASID_NOT_PRESENT;
    return this.#takePasidEntry(binding, words);
  }

  #takePasidEntry(binding: Binding, words: readonly number[]): number {
    const [lo = 0, hi = 0, lo2 = 0, hi2 = 0, lo3 = 0, hi3 = 0] = words;
    const caps = this.#caps;
    const pgtt = (lo >>> 6) & 7;
    const usesSecond = pgtt === Pgtt.SECOND || pgtt === Pgtt.NESTED;
    const usesFirst = pgtt === Pgtt.FIRST || pgtt === Pgtt.NESTED;
    const [pwsnp, pgsnp, ssade] = [(lo2 >>> 23) & 1, (lo2 >>> 24) & 1, (lo >>> 9) & 1];
    const reserved =
      (lo & 0xc20) |
      (lo2 & 0xf87f_0000) |
      (lo2 & 0xffff & ~caps.domainMask) |
      (lo3 & 0xf00) |
      ((hi | hi3) & this.#beyondHaw) |
      (caps.hasMemoryTypes ? 0 : (lo2 & 0x600_0000) | hi2) |
      (caps.hasSecondStage ? 0 : hi | (lo & 0xffff_f000)) |
      (caps.hasFirstStage ? 0 : hi3 | (lo3 & 0xffff_f01c)) |
      (pwsnp !== 0 && !caps.walksCoherently ? 1 : 0) |
      (pgsnp !== 0 && !caps.hasSnoopControl ? 1 : 0) |
      (ssade !== 0 && !(caps.hasSecondStageDirty && caps.hasSecondStage) ? 1 : 0) |
      ((lo3 & 1) !== 0 && !caps.hasSupervisor ? 1 : 0) |
      ((lo3 & 2) !== 0 && !caps.hasExecute ? 1 : 0) |
      ((lo3 & 0x80) !== 0 && !caps.hasExtendedAccess ? 1 : 0) |
      words.slice(6).reduce((all, one) => all | one, 0);
    if (reserved !== 0) return Fault.SM_PASID_RESERVED;
    const width = (lo >>> 2) & 7;
    const levels = (lo3 >>> 2) & 3;
    const isKnown =
      (pgtt === Pgtt.FIRST && caps.hasFirstStage) ||
      (pgtt === Pgtt.SECOND && caps.hasSecondStage) ||
      (pgtt === Pgtt.NESTED && caps.hasNesting && caps.hasFirstStage && caps.hasSecondStage) ||
      (pgtt === Pgtt.PASS_THROUGH && caps.hasPassThrough);
    if (!isKnown || (usesSecond && !this.#hasWidth(width))) return Fault.SM_PASID_INVALID;
    if (usesFirst && (levels > 1 || (levels === 1 && !caps.fiveLevels)))
      return Fault.SM_PASID_INVALID;
    binding.did = lo2 & 0xffff;
    binding.pgtt = pgtt;
    binding.tlbPasid = binding.pasid;
    binding.snoopsWalk = pwsnp !== 0;
    binding.forcesSnoop = pgsnp !== 0;
    binding.ssade = usesSecond && ssade !== 0;
    binding.sre = (lo3 & 1) !== 0;
    this.#setSecondStage(binding, width, hi * 2 ** 20 + (lo >>> 12));
    if (usesFirst) {
      binding.fsTop = hi3 * 2 ** 20 + (lo3 >>> 12);
      if (usesSecond && binding.fsTop >= binding.ssEnd) return Fault.SM_PASID_INVALID;
      binding.fsLevels = levels + 4;
      binding.ere = (lo3 & 2) !== 0;
      binding.wpe = (lo3 & 0x10) !== 0;
      binding.eafe = (lo3 & 0x80) !== 0;
    }
    return 0;
  }
}
