// SPDX-License-Identifier: Apache-2.0
import { NO_PASID } from '../../iommu/device.ts';
import type { Batch } from './batch.ts';
import type { EntryPlace } from './context_table.ts';
import { contextOfDevice, iotlbOfDomain, iotlbOfPasid, pasidCacheOfPasid } from './descriptors.ts';
import type { DeviceInfo } from './device_info.ts';
import {
  CONTEXT_WORDS,
  contextEntry,
  didOf,
  isPresent,
  PASID_ENTRY_WORDS,
  pasidEntry,
  QUANTUM_WORDS,
  type Translation,
  wayBetween,
  withDid,
} from './translation.ts';

const FIRST_STAGE = QUANTUM_WORDS;
const PRESENT = 1;
const DEVICE_IOTLB = 4;
/** FPD of both kinds of entries. */
const FAULTS_DISABLED = 2;

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

/** What both kinds of entries have: their words, and how changes of them are told to the hardware. */
abstract class EntrySlot implements Slot {
  translation: Translation | undefined = undefined;
  protected readonly info: DeviceInfo;
  protected readonly place: EntryPlace;
  /** What memory holds. */
  protected words: Uint32Array;

  /** Of the requests that it is for; 0: those without. */
  readonly pasid: number;

  constructor(info: DeviceInfo, place: EntryPlace, count: number, pasid: number) {
    this.info = info;
    this.pasid = pasid;
    this.place = place;
    this.words = new Uint32Array(count);
  }

  set(next: Translation | undefined, mustSucceed = false): number {
    const before = this.words;
    const rc = this.change(this.encode(next), mustSucceed);
    if (rc === 0) this.translation = next;
    else this.change(before, true);
    return rc;
  }

  silence(): void {
    const words = this.encode(undefined);
    words[0] = FAULTS_DISABLED;
    this.change(words, true);
    this.translation = undefined;
  }

  protected abstract encode(next: Translation | undefined): Uint32Array;

  /** Brings the entry from what it is to `to`, in steps of which each is a translation; a failed one is where it stops. */
  protected abstract change(to: Uint32Array, mustSucceed: boolean): number;

  /** Writes one quantum of 128 bits. */
  protected write(word: number, from: Uint32Array): void {
    const quantum = from.slice(word, word + QUANTUM_WORDS);
    const words = this.words.slice();
    words.set(quantum, word);
    this.words = words;
    this.info.unit.memory.write(this.place.page, this.place.word + word, quantum);
  }

  /** Submissions one after another, each done before the next: what is cached of entries goes before what it led to. */
  protected submit(mustSucceed: boolean, ...fills: ((batch: Batch) => void)[]): number {
    const { unit } = this.info;
    for (const fill of fills) {
      const batch = unit.takeBatch();
      fill(batch);
      const rc = unit.submit(batch, mustSucceed);
      if (rc !== 0) return rc;
    }
    return 0;
  }

  protected deviceIotlb(batch: Batch): void {
    const { info, pasid } = this;
    if (info.isAtsOn) info.describeFlush(batch.next(), pasid, undefined);
  }
}

/** A context entry of legacy mode: 128 bits, so that every change is one write. */
export class ContextSlot extends EntrySlot {
  constructor(info: DeviceInfo, place: EntryPlace) {
    super(info, place, CONTEXT_WORDS, NO_PASID);
  }

  protected override encode(next: Translation | undefined): Uint32Array {
    return next ? contextEntry(next, this.info.hasAts) : new Uint32Array(CONTEXT_WORDS);
  }

  /** A device that is not believed any more gets no translations, also where an entry of before comes back. */
  protected override write(word: number, from: Uint32Array): void {
    const [lo = 0] = from;
    super.write(word, this.info.hasAts ? from : from.with(0, withoutDeviceIotlb(lo)));
  }

  protected override change(to: Uint32Array, mustSucceed: boolean): number {
    const from = this.words;
    const { unit, sourceId } = this.info;
    const didIn = (words: Uint32Array): number => ((words[2] ?? 0) >>> 8) & 0xffff;
    this.write(0, to);
    if (isPresent(from)) {
      return this.submit(
        mustSucceed,
        (batch) => contextOfDevice(batch.next(), didIn(from), sourceId),
        (batch) => {
          iotlbOfDomain(batch.next(), didIn(from), unit.drains);
          this.deviceIotlb(batch);
        },
      );
    }
    if (!isPresent(to)) return 0;
    if (!unit.caps.hasCachingMode) return unit.flushWriteBuffer();
    // What is not present is cached under domain id 0.
    return this.submit(
      mustSucceed,
      (batch) => contextOfDevice(batch.next(), 0, sourceId),
      (batch) => iotlbOfDomain(batch.next(), didIn(to), unit.drains),
    );
  }
}

/** A PASID table entry: 512 bits, of which memory takes 128 at once. */
export class PasidSlot extends EntrySlot {
  constructor(info: DeviceInfo, place: EntryPlace, pasid: number = NO_PASID) {
    super(info, place, PASID_ENTRY_WORDS, pasid);
  }

  protected override encode(next: Translation | undefined): Uint32Array {
    return next ? pasidEntry(next) : new Uint32Array(PASID_ENTRY_WORDS);
  }

  protected override change(to: Uint32Array, mustSucceed: boolean): number {
    const from = this.words;
    if (!isPresent(from)) return this.#make(to, mustSucceed);
    if (!isPresent(to)) return this.#clear(to, mustSucceed);
    const way = wayBetween(from, to);
    if (way === 'at once') return this.#exchange(to, mustSucceed);
    if (way === 'new id') {
      const did = this.info.unit.dids.take();
      if (did >= 0) return this.#exchangeByNewId(to, did, mustSucceed);
    }
    const rc = this.#clear(new Uint32Array(PASID_ENTRY_WORDS), mustSucceed);
    return rc === 0 ? this.#make(to, mustSucceed) : rc;
  }

  /** From nothing: what matters comes last. */
  #make(to: Uint32Array, mustSucceed: boolean): number {
    const { unit } = this.info;
    this.write(FIRST_STAGE, to);
    this.write(0, to);
    if (!isPresent(to)) return 0;
    if (!unit.caps.hasCachingMode) return unit.flushWriteBuffer();
    const did = didOf(to);
    return this.submit(
      mustSucceed,
      (batch) => {
        // What is not present is cached under domain id 0.
        pasidCacheOfPasid(batch.next(), 0, this.pasid);
        pasidCacheOfPasid(batch.next(), did, this.pasid);
      },
      (batch) => iotlbOfPasid(batch.next(), did, this.pasid),
    );
  }

  /** To nothing: the hardware is done with the entry before its parts go. */
  #clear(to: Uint32Array, mustSucceed: boolean): number {
    const from = this.words;
    const absent = from.slice();
    absent[0] = ((from[0] ?? 0) & ~PRESENT) >>> 0;
    this.write(0, absent);
    const rc = this.#forget(from, mustSucceed);
    if (rc !== 0) return rc;
    this.write(0, to);
    this.write(FIRST_STAGE, to);
    return 0;
  }

  /** The first stage's part is written while it does not matter, or it is the same. */
  #exchange(to: Uint32Array, mustSucceed: boolean): number {
    const from = this.words;
    const isFirstBefore = usesFirst(from);
    const isFirst = usesFirst(to);
    if (isFirst && !isFirstBefore) this.write(FIRST_STAGE, to);
    this.write(0, to);
    const rc = this.#forget(from, mustSucceed);
    if (rc === 0 && !isFirst && isFirstBefore) this.write(FIRST_STAGE, to);
    return rc;
  }

  /** The first stage changes under a domain id that nobody else has, and so has what is cached meanwhile. */
  #exchangeByNewId(to: Uint32Array, did: number, mustSucceed: boolean): number {
    const { unit } = this.info;
    const from = this.words;
    const between = withDid(from, did);
    let rc = 0;
    this.write(0, between);
    rc = this.#forget(from, mustSucceed);
    if (rc === 0) {
      this.write(FIRST_STAGE, to);
      this.write(0, to);
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
  #forget(words: Uint32Array, mustSucceed: boolean): number {
    const did = didOf(words);
    const { drains } = this.info.unit;
    const pgtt = ((words[0] ?? 0) >>> 6) & 7;
    const isByPasid = pgtt === PGTT_FIRST || pgtt === PGTT_PASS_THROUGH;
    return this.submit(
      mustSucceed,
      (batch) => pasidCacheOfPasid(batch.next(), did, this.pasid),
      (batch) => {
        if (isByPasid) iotlbOfPasid(batch.next(), did, this.pasid);
        else iotlbOfDomain(batch.next(), did, drains);
        this.deviceIotlb(batch);
      },
    );
  }
}

/** Of a context entry's first word: translation type 01b, with translations for the device, becomes 00b, without. */
export const withoutDeviceIotlb = (lo: number): number =>
  (lo & 0xc) === DEVICE_IOTLB ? (lo & ~DEVICE_IOTLB) >>> 0 : lo;

const PGTT_FIRST = 1;
const PGTT_NESTED = 3;
const PGTT_PASS_THROUGH = 4;

const usesFirst = (words: Uint32Array): boolean => {
  const pgtt = ((words[0] ?? 0) >>> 6) & 7;
  return pgtt === PGTT_FIRST || pgtt === PGTT_NESTED;
};
