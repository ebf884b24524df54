// SPDX-License-Identifier: Apache-2.0
import { hi as hiOf, lo as loOf, toBigint } from '../../base/u64.ts';
import type { Hardware } from '../../kernel/hardware.ts';
import type { TranslationCompletion, TranslationRequest } from '../../pci/ats_messages.ts';
import type { Ram } from '../../memory/ram.ts';
import type { Sim } from '../../sim/sim.ts';
import { Access, Allows, NO_PASID } from './access.ts';
import type { Binding } from './binding.ts';
import { Bindings } from './bindings.ts';
import type { Capabilities } from './capabilities.ts';
import { Commands } from './commands.ts';
import { Fault, isQualified } from './fault_reasons.ts';
import { DeviceTlbs } from './device_tlbs.ts';
import { type ExplainedRequest, explainRequest, type Explanation } from './explain.ts';
import { FaultLog } from './fault_log.ts';
import { Interrupts } from './interrupts.ts';
import { Invalidation } from './invalidation.ts';
import { Iotlb, Pgtt } from './iotlb.ts';
import { PageRequestQueue } from './page_requests.ts';
import { type OtherMemory, PhysicalMemory } from './physical_memory.ts';
import { InvalidationQueue } from './queue.ts';
import { RegisterFile } from './register_file.ts';
import { Offset } from './registers.ts';
import { type Lookup, TranslationRequests } from './translation_requests.ts';
import { Walker, refusalOf } from './walker.ts';

/** Addresses 0xfee00000 to 0xfeefffff are interrupts' (VTD-5.10 §3.15). */
const INTERRUPT_MIB = 0xfee;
const isOfInterrupts = (page: number): boolean => page >= 0xfee00 && page <= 0xfeeff;

export interface VtdOptions {
  readonly name?: string;
  readonly sim: Sim;
  readonly ram: Ram;
  readonly caps: Capabilities;
  /** What is not RAM: pages of clients. */
  readonly other?: OtherMemory;
}

/** What an answer came from: page tables (or none, where addresses pass through) by way of the other caches; a device's own cache. */
export type ServedBy = 'iotlb' | 'walk' | 'device tlb';

/** An access that was let through. */
export interface Served {
  readonly sid: number;
  /** -1: none. */
  readonly pasid: number;
  /** The page of 4 KiB that was asked for, and where it led; the same where the device had translated it. */
  readonly page: number;
  readonly out: number;
  /** Bits of {@link Access}. */
  readonly access: number;
  readonly by: ServedBy;
}

/** One VT-d remapping unit. Software sees `hardware`; devices call `translate`. */
export class VtdUnit implements Lookup {
  readonly name: string;
  readonly caps: Capabilities;
  readonly memory: PhysicalMemory;
  readonly hardware: Hardware;
  readonly invalidation: Invalidation;
  /** What devices keep (ATS), and what they ask for (PRI). */
  readonly deviceTlbs: DeviceTlbs;
  readonly pageRequests: PageRequestQueue;
  /** How many bytes, as a power of two of pages, the last translation is good for. */
  lastLg2 = 0;
  readonly #sim: Sim;
  readonly #registers: RegisterFile;
  readonly #bindings: Bindings;
  readonly #iotlb = new Iotlb();
  readonly #walker: Walker;
  readonly #log: FaultLog;
  readonly #queue: InvalidationQueue;
  readonly #translationRequests: TranslationRequests;
  readonly #interrupts = new Interrupts();
  readonly #commands: Commands;
  /** The last look went to tables. */
  #hasWalked = false;
  /** Told of each access that is let through; costs nothing while nobody listens. It must change nothing. */
  onServed: ((served: Served) => void) | undefined = undefined;

  constructor({ name = 'dmar0', sim, ram, caps, other }: VtdOptions) {
    this.name = name;
    this.caps = caps;
    this.#sim = sim;
    const isCoherent = caps.isCoherent && (!caps.isScalable || caps.walksCoherently);
    this.memory = new PhysicalMemory(ram, other, isCoherent);
    this.#registers = new RegisterFile(caps);
    this.#bindings = new Bindings(caps, this.memory);
    this.#walker = new Walker(caps, this.memory);
    const send = this.#interrupts.send.bind(this.#interrupts);
    this.#log = new FaultLog(this.#registers, caps, send);
    this.deviceTlbs = new DeviceTlbs(sim.clock, {
      timedOut: (sid) => this.#queue.timedOut(sid),
      stray: (sid) => this.#queue.stray(sid),
    });
    this.pageRequests = new PageRequestQueue({
      ...{ registers: this.#registers, memory: this.memory, caps, bindings: this.#bindings },
      ...{ log: this.#log, send, isOn: () => this.#commands.translates },
      forget: (binding, page) => this.invalidation.forgetPage(binding, page),
    });
    this.invalidation = new Invalidation(caps, this.#bindings, this.#iotlb, this.#walker, this);
    this.#queue = new InvalidationQueue(this.#registers, this.memory, {
      ...{ invalidation: this.invalidation, deviceTlbs: this.deviceTlbs },
      ...{ pageRequests: this.pageRequests, log: this.#log, send, mode: this.#bindings },
    });
    this.#commands = new Commands({
      ...{ caps, registers: this.#registers, bindings: this.#bindings, log: this.#log },
      ...{ invalidation: this.invalidation, queue: this.#queue },
    });
    this.#translationRequests = new TranslationRequests(this.#bindings, this);
    this.hardware = this.#hardware();
    sim.spawn(`${name} queue`, this.#queue.body(), { daemon: true });
    if (caps.hasPageRequests)
      sim.spawn(`${name} page requests`, this.pageRequests.body(), { daemon: true });
    sim.spawn(`${name} interrupts`, this.#interrupts.body(), { daemon: true });
  }

  /**
   * Where a byte of an I/O address leads: the page of 4 KiB, as a number, or minus the reason why it is refused, which is recorded.
   * `pasid` -1 for none; `access` of {@link Access}. Never throws.
   */
  translate(sid: number, pasid: number, lo: number, hi: number, access: number): number {
    const page = hi * 2 ** 20 + (lo >>> 12);
    if (!this.#commands.translates) return page;
    const binding = this.#bindings.find(sid, pasid);
    if (binding.fault !== 0 || access > Access.WRITE || binding.addedAccess !== 0) {
      return this.#translateOdd(binding, pasid, lo, hi, access);
    }
    const { pgtt } = binding;
    if (pgtt !== Pgtt.PASS_THROUGH && lo >>> 20 !== INTERRUPT_MIB) {
      const slot = this.#iotlb.find(lo >>> 12, page, binding.tag, binding.tlbPasid);
      if (slot >= 0) {
        const need =
          access === Access.READ
            ? Allows.READ | Allows.USER
            : Allows.WRITE | Allows.USER | Allows.DIRTY;
        if ((this.#iotlb.allows(slot) & need) === need && this.#iotlb.fault(slot) === 0) {
          this.lastLg2 = this.#iotlb.lg2(slot);
          const out = this.#iotlb.out(slot);
          if (this.onServed !== undefined) this.#tell(sid, pasid, page, access, out, 'iotlb');
          return out;
        }
      }
    }
    return this.#translateSlowly(binding, pasid, lo, hi, access);
  }

  /** A translation request (ATS) of a function. While translation is off there is nobody to serve it. */
  requestTranslation(sid: number, request: TranslationRequest): TranslationCompletion {
    if (!this.#commands.translates) return { status: 'UNSUPPORTED_REQUEST' };
    return this.#translationRequests.answer(sid, request);
  }

  /** The way of a request through the tables as they are in memory now, for people. */
  explain(request: ExplainedRequest): Explanation {
    const { root, isScalable } = this.#bindings;
    const { memory } = this;
    return explainRequest(
      { memory, root: this.#commands.translates ? root : undefined, isScalable },
      request,
    );
  }

  /** What it keeps, each of which can be emptied by itself: for checkers. The nearest to the device comes first. */
  get caches(): { readonly name: string; clear(): void }[] {
    return [
      { name: 'IOTLB', clear: () => this.#iotlb.clear() },
      { name: 'paging-structure caches', clear: () => this.#walker.clear() },
      { name: 'PASID cache', clear: () => this.#bindings.clearPasids() },
      { name: 'context cache', clear: () => this.#bindings.clearContexts() },
    ];
  }

  /** Accesses of this requester snoop, whatever they ask for (PGSNP). */
  forcesSnoop(sid: number, pasid: number): boolean {
    return this.#bindings.find(sid, pasid).forcesSnoop;
  }

  /** Refusals by the tables above, and requests that are no plain read or write. */
  #translateOdd(binding: Binding, pasid: number, lo: number, hi: number, asked: number): number {
    const refuse = (reason: number): number => this.#refuse(binding, pasid, lo, hi, asked, reason);
    if ((asked & Access.TRANSLATED) !== 0)
      return this.#passTranslated(binding.sid, pasid, lo, hi, asked);
    if (binding.fault !== 0) return refuse(binding.fault);
    const isLegacy = !this.#bindings.isScalable;
    if ((asked & Access.TRANSLATION_REQUEST) !== 0 && !binding.allowsAts)
      return refuse(this.#translationRequests.blockedReason);
    const hasFirst = binding.pgtt === Pgtt.FIRST || binding.pgtt === Pgtt.NESTED;
    let access = asked | binding.addedAccess;
    if (isLegacy) access &= ~Access.PRIVILEGED;
    if (!hasFirst) access &= ~Access.EXECUTE;
    if ((access & Access.EXECUTE) !== 0 && !binding.ere) return refuse(Fault.SM_ERE_CLEAR);
    if ((access & Access.PRIVILEGED) !== 0 && !binding.sre) return refuse(Fault.SM_SRE_CLEAR);
    return this.#translateSlowly(binding, pasid, lo, hi, access);
  }

  /** A request with an address of physical memory already: the context entry alone decides (VTD-5.10 §4.2.5). */
  #passTranslated(sid: number, pasid: number, lo: number, hi: number, access: number): number {
    const { fault, ats, fpd } = this.#bindings.context(sid);
    const page = hi * 2 ** 20 + (lo >>> 12);
    const isScalable = this.#bindings.isScalable;
    let reason = fault;
    if (reason === 0 && !ats) reason = this.#translationRequests.blockedReason;
    if (reason === 0 && page >= 2 ** (this.caps.haw - 12))
      reason = isScalable ? Fault.SM_BEYOND_HAW : Fault.BEYOND_WIDTH;
    if (reason === 0 && isOfInterrupts(page))
      reason = isScalable ? Fault.SM_INTERRUPT_ADDRESS : Fault.INTERRUPT_ADDRESS;
    if (reason === 0) {
      if (this.onServed !== undefined) this.#tell(sid, pasid, page, access, page, 'device tlb');
      return page;
    }
    this.record({ sid, fpd }, { pasid, lo, hi }, access, reason);
    return -reason;
  }

  #translateSlowly(
    binding: Binding,
    pasid: number,
    lo: number,
    hi: number,
    access: number,
  ): number {
    this.#hasWalked = false;
    const found = this.look(binding, pasid, lo, hi, access);
    if (found < 0) return this.#refuse(binding, pasid, lo, hi, access, -found);
    if (this.onServed !== undefined) {
      const page = hi * 2 ** 20 + (lo >>> 12);
      this.#tell(binding.sid, pasid, page, access, found, this.#hasWalked ? 'walk' : 'iotlb');
    }
    return found;
  }

  #tell(sid: number, pasid: number, page: number, access: number, out: number, by: ServedBy): void {
    this.onServed?.({ sid, pasid, page, access, out, by });
  }

  /** In caches, then in tables. The page, or minus the reason of a refusal, which is not recorded. */
  look(binding: Binding, pasid: number, lo: number, hi: number, access: number): number {
    const page = hi * 2 ** 20 + (lo >>> 12);
    const { pgtt, tag, tlbPasid } = binding;
    const isWrite = (access & Access.WRITE) !== 0;
    if (isOfInterrupts(page) && (access & Access.TRANSLATION_REQUEST) === 0) {
      // Without PASID a write is an interrupt, and nothing else is allowed; with one it is an address like any other.
      if (pasid === NO_PASID && isWrite && (access & Access.ATOMIC) === 0) {
        this.#hasWalked = true;
        return page;
      }
      if (pasid === NO_PASID || pgtt === Pgtt.PASS_THROUGH) return -binding.reasons.interrupt;
    }
    if (pgtt === Pgtt.PASS_THROUGH) {
      this.#hasWalked = true;
      if (page < 2 ** (this.caps.haw - 12)) {
        this.lastLg2 = 0;
        return page;
      }
      return -(this.#bindings.isScalable ? Fault.SM_BEYOND_HAW : Fault.BEYOND_WIDTH);
    }
    const slot = this.#iotlb.find(lo >>> 12, page, tag, tlbPasid);
    if (slot >= 0) {
      const reason = this.#iotlb.fault(slot) || this.#cachedRefusal(binding, slot, access);
      if (reason !== 0) return -reason;
      if (!isWrite || (this.#iotlb.allows(slot) & Allows.DIRTY) !== 0) {
        this.lastLg2 = this.#iotlb.lg2(slot);
        return this.#iotlb.out(slot);
      }
    }
    this.#hasWalked = true;
    const walker = this.#walker;
    let reason = walker.walk(binding, lo, hi, access);
    if (reason === 0) {
      const out = walker.page;
      if (!isOfInterrupts(out)) {
        this.#iotlb.put(lo >>> 12, page, tag, tlbPasid, out, walker.allows, walker.lg2, 0);
        this.lastLg2 = walker.lg2;
        return out;
      }
      reason = binding.reasons.interrupt;
    }
    if (this.caps.hasCachingMode && walker.foundNothing) {
      this.#iotlb.put(lo >>> 12, page, tag, tlbPasid, 0, 0, 0, reason);
    }
    return -reason;
  }

  /** Why what is cached does not allow an access; 0 where it does. */
  #cachedRefusal(binding: Binding, slot: number, access: number): number {
    const allows = this.#iotlb.allows(slot);
    if (binding.pgtt !== Pgtt.SECOND) {
      const reason = refusalOf(allows, access);
      if (reason !== 0) return reason;
    }
    const isWrite = (access & Access.WRITE) !== 0;
    const isRead = !isWrite || (access & Access.ATOMIC) !== 0;
    const writes = Allows.WRITE | Allows.SUPERVISOR_WRITE;
    if (isWrite && (allows & writes) === 0) return binding.reasons.noWrite;
    return isRead && (allows & Allows.READ) === 0 ? binding.reasons.noRead : 0;
  }

  #refuse(
    binding: Binding,
    pasid: number,
    lo: number,
    hi: number,
    access: number,
    reason: number,
  ): number {
    this.record(binding, { pasid, lo, hi }, access, reason);
    return -reason;
  }

  /** Writes a refusal into a fault record, unless an entry on the way keeps it out (FPD). */
  record(
    from: { readonly sid: number; readonly fpd: boolean },
    { pasid, lo, hi }: { readonly pasid: number; readonly lo: number; readonly hi: number },
    access: number,
    reason: number,
  ): void {
    if (from.fpd && isQualified(reason)) return;
    this.#log.record(from.sid, pasid, lo, hi, access, reason);
  }

  #hardware(): Hardware {
    const read32 = (offset: number): number => {
      this.#sim.point('a register is read');
      return this.#registers.get(offset);
    };
    const write32 = (offset: number, value: number): void => {
      this.#write(offset, value >>> 0);
      this.#sim.point('a register was written');
    };
    return {
      mmio: {
        read32,
        write32,
        read64: (offset) => {
          this.#sim.point('a register is read');
          return toBigint(this.#registers.get(offset), this.#registers.get(offset + 4));
        },
        write64: (offset, value) => {
          this.#write(offset, loOf(value));
          this.#write(offset + 4, hiOf(value));
          this.#sim.point('a register was written');
        },
      },
      mem: {
        ram: this.memory.ram,
        flush: (frame, byte, bytes) => this.memory.flush(frame, byte, bytes),
      },
      irq: this.#interrupts,
      clock: this.#clock(),
      reset: () => this.reset(),
    };
  }

  #clock(): Hardware['clock'] {
    const sim = this.#sim;
    return {
      get now() {
        return sim.clock.now;
      },
      poll: (condition, limit) => sim.poll(condition, limit),
    };
  }

  reset(): void {
    this.#registers.reset();
    this.#log.reset();
    this.#queue.turn(false);
    this.deviceTlbs.reset();
    this.pageRequests.reset();
    this.#bindings.setRoot(0, 0);
    this.invalidation.all();
    this.#interrupts.reset();
    this.#commands.translates = false;
  }

  #write(offset: number, value: number): void {
    const registers = this.#registers;
    if (offset === Offset.GCMD) {
      this.#commands.global(value);
      return;
    }
    const held = registers.get(offset);
    registers.write(offset, value);
    const { iotlbAt, recordsAt, records } = this.caps;
    if (offset === Offset.CCMD + 4) this.#commands.context(value);
    else if (offset === iotlbAt + 12) this.#commands.iotlb(value);
    else if (offset === Offset.FECTL) this.#log.event.controlWritten();
    else if (offset === Offset.IECTL) this.#queue.event.controlWritten();
    else if (offset === Offset.ICS && (value & held & 1) !== 0) this.#queue.event.withdraw();
    else if (offset === Offset.FSTS) this.#log.update();
    else if (offset === Offset.PECTL) this.pageRequests.event.controlWritten();
    else if (offset === Offset.PRS) this.pageRequests.statusWritten();
    else if (offset === Offset.PMEN) {
      // The region's status follows its switch at once.
      const isOn = this.caps.hasProtectedRegions && (value & 0x8000_0000) !== 0;
      registers.set(offset, isOn ? 0x8000_0001 : 0);
    } else if (offset >= recordsAt && offset < recordsAt + records * 16) this.#log.update();
  }
}
