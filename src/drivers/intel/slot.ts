// SPDX-License-Identifier: Apache-2.0
import { NO_PASID } from '../../iommu/device.ts';
import type { Batch } from './batch.ts';
import type { EntryPlace } from './context_table.ts';
import { contextOfDevice, iotlbOfDomain, iotlbOfPasid, pasidCacheOfPasid } from './descriptors.ts';
import type { DeviceInfo } from './device_info.ts';
import {
  absent,
  contextEntry,
  didOf,
  isByPasid,
  isPresent,
  NO_CONTEXT,
  NO_PASID_ENTRY,
  type PasidEntry,
  pasidEntry,
  type Quantum,
  QUANTUM_WORDS,
  type Translation,
  usesFirst,
  wayBetween,
  withDid,
} from './translation.ts';

const DEVICE_IOTLB = 4;
/** FPD of both kinds of entries. */
const FAULTS_DISABLED = 2;
const SILENT: Quantum = Uint32Array.of(FAULTS_DISABLED, 0, 0, 0);

/**
 * The entry that says how one requester, or one of its PASIDs, is translated. `set` exchanges what it says, with the invalidations that
 * this needs, so that no access that both the old and the new translation allow is refused on the way where the hardware allows that.
 */
export interface Slot {
  /**
   * Undefined blocks. 0, or the negative errno of a submission that failed, and the entry is as it was. With `mustSucceed` submissions
   * are repeated, and what still fails is reported instead.
   */
  set(next: Translation | undefined, mustSucceed?: boolean): number;
  /** Blocks, and what is refused from now on is not reported; until the next `set`. */
  silence(): void;
  /** What it says now, for a change of a part; undefined blocks. */
  readonly translation: Translation | undefined;
}

/** What both kinds of entries have: what they hold, and how changes of that are told to the hardware. */
abstract class EntrySlot<Entry> implements Slot {
  translation: Translation | undefined = undefined;
  protected readonly info: DeviceInfo;
  protected readonly place: EntryPlace;
  /** What memory holds: another with each write. */
  protected entry: Entry;

  /** Of the requests that it is for; 0: those without. */
  readonly pasid: number;

  constructor(info: DeviceInfo, place: EntryPlace, entry: Entry, pasid: number) {
    this.info = info;
    this.pasid = pasid;
    this.place = place;
    this.entry = entry;
  }

  set(next: Translation | undefined, mustSucceed = false): number {
    const before = this.entry;
    const rc = this.change(this.encode(next), mustSucceed);
    if (rc === 0) this.translation = next;
    else this.change(before, true);
    return rc;
  }

  silence(): void {
    this.change(this.silent, true);
    this.translation = undefined;
  }

  protected abstract encode(next: Translation | undefined): Entry;

  /** It blocks, and what is refused is not reported. */
  protected abstract get silent(): Entry;

  /** Brings the entry from what it is to `to`, in steps of which each is a translation; a failed one is where it stops. */
  protected abstract change(to: Entry, mustSucceed: boolean): number;

  protected writeQuantum(word: number, quantum: Quantum): void {
    this.info.unit.memory.write(this.place.page, this.place.word + word, quantum);
  }

  protected deviceIotlb(batch: Batch): void {
    const { info, pasid } = this;
    if (info.isAtsOn) info.describeFlush(batch.next(), pasid, undefined);
  }
}

/*
 * Submissions go one after another, each done before the next: what is cached of entries goes before what it led to.
 */

/** A context entry of legacy mode: 128 bits, so that every change is one write. */
export class ContextSlot extends EntrySlot<Quantum> {
  constructor(info: DeviceInfo, place: EntryPlace) {
    super(info, place, NO_CONTEXT, NO_PASID);
  }

  protected override encode(next: Translation | undefined): Quantum {
    return next ? contextEntry(next, this.info.hasAts) : NO_CONTEXT;
  }

  protected override get silent(): Quantum {
    return SILENT;
  }

  protected override change(to: Quantum, mustSucceed: boolean): number {
    const from = this.entry;
    const { unit, sourceId } = this.info;
    this.#write(to);
    if (!isPresent(from)) return isPresent(to) ? this.#tellOfNew(to, mustSucceed) : 0;
    let batch = unit.takeBatch();
    contextOfDevice(batch.next(), didOfContext(from), sourceId);
    const rc = unit.submit(batch, mustSucceed);
    if (rc !== 0) return rc;
    batch = unit.takeBatch();
    iotlbOfDomain(batch.next(), didOfContext(from), unit.drains);
    this.deviceIotlb(batch);
    return unit.submit(batch, mustSucceed);
  }

  /** A device that is not believed any more gets no translations, also where an entry of before comes back. */
  #write(to: Quantum): void {
    const [lo = 0] = to;
    this.entry = this.info.hasAts ? to : to.with(0, withoutDeviceIotlb(lo));
    this.writeQuantum(0, this.entry);
  }

  /** Nothing was present. */
  #tellOfNew(to: Quantum, mustSucceed: boolean): number {
    const { unit, sourceId } = this.info;
    if (!unit.caps.hasCachingMode) return unit.flushWriteBuffer();
    let batch = unit.takeBatch();
    // What is not present is cached under domain id 0.
    contextOfDevice(batch.next(), 0, sourceId);
    const rc = unit.submit(batch, mustSucceed);
    if (rc !== 0) return rc;
    batch = unit.takeBatch();
    iotlbOfDomain(batch.next(), didOfContext(to), unit.drains);
    return unit.submit(batch, mustSucceed);
  }
}

/** A PASID table entry: 512 bits, of which memory takes 128 at once. */
export class PasidSlot extends EntrySlot<PasidEntry> {
  constructor(info: DeviceInfo, place: EntryPlace, pasid: number = NO_PASID) {
    super(info, place, NO_PASID_ENTRY, pasid);
  }

  protected override encode(next: Translation | undefined): PasidEntry {
    return next ? pasidEntry(next) : NO_PASID_ENTRY;
  }

  protected override get silent(): PasidEntry {
    return { ...NO_PASID_ENTRY, head: SILENT };
  }

  protected override change(to: PasidEntry, mustSucceed: boolean): number {
    const from = this.entry;
    if (!isPresent(from.head)) return this.#make(to, mustSucceed);
    if (!isPresent(to.head)) return this.#clear(to, mustSucceed);
    const way = wayBetween(from, to);
    if (way === 'at once') return this.#exchange(to, mustSucceed);
    if (way === 'new id') {
      const did = this.info.unit.dids.take();
      if (did >= 0) return this.#exchangeByNewId(to, did, mustSucceed);
    }
    const rc = this.#clear(NO_PASID_ENTRY, mustSucceed);
    return rc === 0 ? this.#make(to, mustSucceed) : rc;
  }

  #writeHead(head: Quantum): void {
    this.entry = { head, first: this.entry.first };
    this.writeQuantum(0, head);
  }

  #writeFirst({ first }: PasidEntry): void {
    this.entry = { head: this.entry.head, first };
    this.writeQuantum(QUANTUM_WORDS, first);
  }

  /** From nothing: what matters comes last. */
  #make(to: PasidEntry, mustSucceed: boolean): number {
    const { unit } = this.info;
    this.#writeFirst(to);
    this.#writeHead(to.head);
    if (!isPresent(to.head)) return 0;
    if (!unit.caps.hasCachingMode) return unit.flushWriteBuffer();
    const did = didOf(to.head);
    let batch = unit.takeBatch();
    // What is not present is cached under domain id 0.
    pasidCacheOfPasid(batch.next(), 0, this.pasid);
    pasidCacheOfPasid(batch.next(), did, this.pasid);
    const rc = unit.submit(batch, mustSucceed);
    if (rc !== 0) return rc;
    batch = unit.takeBatch();
    iotlbOfPasid(batch.next(), did, this.pasid);
    return unit.submit(batch, mustSucceed);
  }

  /** To nothing: the hardware is done with the entry before its parts go. */
  #clear(to: PasidEntry, mustSucceed: boolean): number {
    const { head } = this.entry;
    this.#writeHead(absent(head));
    const rc = this.#forget(head, mustSucceed);
    if (rc !== 0) return rc;
    this.#writeHead(to.head);
    this.#writeFirst(to);
    return 0;
  }

  /** The first stage's part is written while it does not matter, or it is the same. */
  #exchange(to: PasidEntry, mustSucceed: boolean): number {
    const { head } = this.entry;
    const isFirstBefore = usesFirst(head);
    const isFirst = usesFirst(to.head);
    if (isFirst && !isFirstBefore) this.#writeFirst(to);
    this.#writeHead(to.head);
    const rc = this.#forget(head, mustSucceed);
    if (rc === 0 && !isFirst && isFirstBefore) this.#writeFirst(to);
    return rc;
  }

  /** The first stage changes under a domain id that nobody else has, and so has what is cached meanwhile. */
  #exchangeByNewId(to: PasidEntry, did: number, mustSucceed: boolean): number {
    const { unit } = this.info;
    const from = this.entry;
    const between = withDid(from.head, did);
    let rc = 0;
    this.#writeHead(between);
    rc = this.#forget(from.head, mustSucceed);
    if (rc === 0) {
      this.#writeFirst(to);
      this.#writeHead(to.head);
      rc = this.#forget(between, mustSucceed);
    }
    if (rc !== 0) {
      // Back first: the id is not to be another's while the entry has it.
      this.change(from, true);
      this.#forget(between, true);
    }
    unit.dids.give(did);
    return rc;
  }

  /** What the hardware may have cached through an entry that was present. Source: Linux `intel_pasid_tear_down_entry()`. */
  #forget(head: Quantum, mustSucceed: boolean): number {
    const { unit } = this.info;
    const did = didOf(head);
    let batch = unit.takeBatch();
    pasidCacheOfPasid(batch.next(), did, this.pasid);
    const rc = unit.submit(batch, mustSucceed);
    if (rc !== 0) return rc;
    batch = unit.takeBatch();
    if (isByPasid(head)) iotlbOfPasid(batch.next(), did, this.pasid);
    else iotlbOfDomain(batch.next(), did, unit.drains);
    this.deviceIotlb(batch);
    return unit.submit(batch, mustSucceed);
  }
}

/** The domain id in a context entry. */
const didOfContext = (words: Quantum): number => ((words[2] ?? 0) >>> 8) & 0xffff;

/** Of a context entry's first word: translation type 01b, with translations for the device, becomes 00b, without. */
export const withoutDeviceIotlb = (lo: number): number =>
  (lo & 0xc) === DEVICE_IOTLB ? (lo & ~DEVICE_IOTLB) >>> 0 : lo;
