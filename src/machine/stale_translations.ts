// SPDX-License-Identifier: Apache-2.0
import { iovaOfFrame } from '../generic_pt/iova.ts';
import { type Device, NO_PASID } from '../iommu/device.ts';
import {
  DIRTY_NO_CLEAR,
  type Domain,
  type GuestWatcher,
  IotlbGather,
  isSvaDomain,
} from '../iommu/domain.ts';
import type { IommuGroup } from '../iommu/group.ts';
import { type DomainWatcher, PtDomain } from '../iommu/pt_domain.ts';
import { FRAME_SHIFT } from '../memory/frame.ts';
import type { Mm } from '../memory/mm.ts';
import type { FrameBytes } from '../memory/physical_memory.ts';
import type { DmaWitness, Translated } from '../pci/dma.ts';
import { type InvalidationNotice, isFault, type Translator } from '../pci/translator.ts';
import { rangeText } from './guest_requests.ts';
import { GuestTables } from './guest_tables.ts';
import { type Expectation, expectationOf, hex } from './stale_expectation.ts';
import { type LastChange, type Seen, StaleHistory } from './stale_history.ts';
import type { WatchedMemory } from './watched_memory.ts';

/** A DMA that an IOMMU served, or refused, as software does not expect any more. */
export interface StaleTranslation {
  readonly device: string;
  readonly pasid: number;
  readonly iova: bigint;
  /** Where the wrong answer was kept: a cache, `device TLB`, or `tables` where memory itself has it. */
  readonly where: string;
  /** The last change that concerns it: `0x1000-0x1fff unmapped`. */
  readonly since: string;
  /** What software asked the IOMMU to forget for it. */
  readonly asked: readonly InvalidationNotice[];
  /** All of it in sentences. */
  readonly text: string;
}

/** No cache: memory itself. */
const TABLES = 'tables';

/** Ranges of one call that are remembered for reports. */
const MOST_RANGES = 100;

/** What the oracle looks at beside the DMA that it sees. */
export interface StaleSources {
  readonly translatorOf: (device: Device) => Translator | undefined;
  /** The requester id of a device. */
  readonly requesterOf: (device: Device) => number | undefined;
  /** All memory, with the tables of processes. */
  readonly memory: FrameBytes;
  /** That of clients, as hardware has it: what it reads there of guests' tables it may keep. */
  readonly clients: WatchedMemory;
}

/**
 * Knows what software is entitled to expect: what it has unmapped, cleaned or detached, and believes forgotten, no DMA uses any more. Each
 * DMA is compared, when it is done, with the tables of the domain that core has in force; while a flush or an attach is under way both
 * the old and the new are right. What a guest has changed and not invalidated may be used, or not.
 */
export class StaleTranslations implements DmaWitness, DomainWatcher {
  readonly #sources: StaleSources;
  readonly #report: (found: StaleTranslation) => void;
  readonly #heard = new Set<Translator>();
  readonly #mms = new WeakSet<Mm>();
  readonly #history = new StaleHistory();
  readonly #guests: GuestTables;

  constructor(sources: StaleSources, report: (found: StaleTranslation) => void) {
    this.#sources = sources;
    this.#report = report;
    this.#guests = new GuestTables(sources.memory, (domain, requests) => {
      const [first] = requests;
      if (!first) return;
      const more = requests.length === 1 ? '' : ` and ${requests.length - 1} more`;
      const told = requests.slice(0, MOST_RANGES);
      const covers = (page: number): boolean =>
        told.some((one) => one.first <= page && page <= one.last);
      this.#history.note({
        text: `${rangeText(first)}${more} invalidated by the guest (IOMMU_HWPT_INVALIDATE)`,
        concerns: (access) => access.domain === domain && covers(Number(access.seen.iova >> 12n)),
      });
    });
  }

  /** Whom core is to tell of guests' invalidations. */
  get guestWatcher(): GuestWatcher {
    return this.#guests;
  }

  asked({ group }: Device, pasid: number, iova: bigint): void {
    if (!group) return;
    this.#guests.requested(group);
    this.#guests.of(domainOf(group, pasid))?.look(iova, this.#sources.clients.take());
  }

  sees(seen: Translated): void {
    const { group } = seen.device;
    if (!group) return;
    this.#guests.requested(group);
    const domain = domainOf(group, seen.pasid);
    const reads = this.#sources.clients.take();
    const guest = this.#guests.of(domain);
    const expected = expectationOf(
      seen,
      domain,
      this.#sources.memory,
      guest && {
        expectation: () => guest.expectationOf(seen, reads),
      },
    );
    if (!expected) return;
    const { text, below } = expected;
    if (expected.agrees(seen.frame)) this.#checkDirty(seen, domain, expected);
    else this.#tell({ seen, domain, below }, text, (frame) => expected.agrees(frame));
  }

  synced(domain: PtDomain, { start, last }: IotlbGather): void {
    if (last < start) return;
    const [from, to] = [iovaOfFrame(start), iovaOfFrame(last + 1) - 1n];
    this.#guests.changedBelow(domain, from, to);
    this.#history.note({
      text: `${hex(from)}-${hex(to)} unmapped or cleaned`,
      stage: domain,
      concerns: ({ seen: { iova }, domain: of, below }) =>
        of === domain
          ? iova >= from && iova <= to
          : this.#guests.of(of)?.parent === domain &&
            below.some((page) => page <= to && page + 0xfffn >= from),
    });
  }

  /** From before its first DMA on: what changes, and what is asked of its IOMMU. */
  follow(device: Device): void {
    const { group } = device;
    if (!group) return;
    group.onChange ??= (pasid) => {
      const domain = domainOf(group, pasid);
      this.#guests.attached(group, pasid, domain);
      this.#watch(domain);
      const at = pasid === NO_PASID ? '' : ` at PASID ${pasid}`;
      this.#history.note({
        text: `another domain attached${at}`,
        concerns: ({ seen }) => seen.device.group === group && seen.pasid === pasid,
      });
    };
    const { translatorOf } = this.#sources;
    const translator = translatorOf(device);
    if (!translator || this.#heard.has(translator)) return;
    this.#heard.add(translator);
    translator.onInvalidation = (notice) =>
      this.#history.note({
        text: notice.text,
        asks: notice,
        concerns: ({ seen }) => translatorOf(seen.device) === translator,
      });
  }

  #watch(domain: Domain | undefined): void {
    const table = this.#guests.of(domain)?.parent ?? domain;
    if (table instanceof PtDomain) table.watcher = this;
    if (domain && isSvaDomain(domain)) this.#watchProcess(domain.mm);
  }

  #watchProcess(mm: Mm): void {
    if (this.#mms.has(mm)) return;
    this.#mms.add(mm);
    const forgotten = (start: bigint, last: bigint): void => {
      const range = `${hex(start)}-${hex(last)}`;
      this.#history.note({
        text: mm.alive ? `${range} taken out of the process's tables` : 'the process exited',
        concerns: ({ seen: { iova }, domain }) =>
          domain !== undefined &&
          isSvaDomain(domain) &&
          domain.mm === mm &&
          iova >= start &&
          iova <= last,
      });
    };
    const nothing = (): void => undefined;
    mm.tables?.subscribe({ invalidate: nothing, release: nothing, forgotten });
  }

  /** A write through an entry that says it was recorded is not recorded again. */
  #checkDirty(seen: Translated, domain: Domain | undefined, { ends, below }: Expectation): void {
    if (seen.access !== 'write' || seen.frame === undefined) return;
    const table = this.#guests.of(domain)?.parent ?? domain;
    if (!(table instanceof PtDomain) || !table.isTracking || table.isFlushing) return;
    const isRecorded = (): boolean => ends.some((address) => isDirtyAt(table, address));
    if (isRecorded()) return;
    this.#tell({ seen, domain, below }, 'the write is not recorded', isRecorded);
  }

  /** @param isRight  whether what an access is led to now is what was expected */
  #tell(access: Seen, expected: string, isRight: (frame: number | undefined) => boolean): void {
    const { device, pasid, iova, access: kind, frame, byDevice } = access.seen;
    const where = byDevice ? 'device TLB' : this.#whereIs(access.seen, isRight);
    // A refusal that the tables make too has reasons of its own: not all that a device may do is in a domain.
    if (frame === undefined && where === TABLES) return;
    const change = this.#history.lastChangeFor(access);
    const { text: since, asked } = change;
    const who = pasid === NO_PASID ? device.name : `${device.name}, PASID ${pasid}`;
    const did = frame === undefined ? 'is refused' : `reaches frame ${hex(frame)}`;
    const text =
      `stale translation: ${kind} of ${hex(iova)} by ${who} ${did} by the ${where}, ` +
      `where ${expected}. Last change: ${since}. ${missing(where, access, change, this.#sources.requesterOf(device))}`;
    this.#report({ device: device.name, pasid, iova, where, since, asked, text });
  }

  /** Empties one cache more each time, for those nearer to the device fill again: the one after which the answer is right had it. */
  #whereIs(
    { device, pasid, iova, access, mode }: Translated,
    isRight: (frame: number | undefined) => boolean,
  ): string {
    const translator = this.#sources.translatorOf(device);
    if (!translator) return TABLES;
    const { caches = [] } = translator;
    for (const [index, cache] of caches.entries()) {
      for (const one of caches.slice(0, index + 1)) one.clear();
      const now = translator.translate(device, pasid, iova, access, mode);
      if (isRight(isFault(now) ? undefined : now.frame)) return cache.name;
    }
    return TABLES;
  }
}

const domainOf = (group: IommuGroup, pasid: number): Domain | undefined =>
  pasid === NO_PASID ? group.domain : group.domainAt(pasid);

/** Whether the tables say that the page of an address was written to. */
function isDirtyAt(domain: PtDomain, address: bigint): boolean {
  let isDirty = false;
  const page = (address >> BigInt(FRAME_SHIFT)) << BigInt(FRAME_SHIFT);
  domain.readAndClear(page, 1, DIRTY_NO_CLEAR, new IotlbGather(), () => (isDirty = true));
  return isDirty;
}

/** What should have been asked for, and what was instead. Paging-structure caches go with the IOTLB. */
function missing(
  where: string,
  { seen, below }: Seen,
  { asked, isBelow }: LastChange,
  requester: number | undefined,
): string {
  if (where === TABLES) return 'The tables in memory say so: the driver wrote them wrong.';
  const cache = where === 'paging-structure caches' ? 'IOTLB' : where;
  const all = asked.filter((one) => one.cache === cache);
  const alike = all.filter(
    ({ pasid = seen.pasid, requester: of = requester }) => pasid === seen.pasid && of === requester,
  );
  const inWords = (some: readonly InvalidationNotice[]): string =>
    some.map(({ text }) => text).join('; ');
  const texts = inWords(alike);
  if (all.length === 0) return `Missing: an invalidation of the ${where}.`;
  if (alike.length === 0)
    return `Missing: an invalidation of the ${where}; asked for, of other requests: ${inWords(all)}.`;
  const addresses = isBelow ? below : [seen.iova];
  const covers = ({ range }: InvalidationNotice): boolean =>
    !range || addresses.some((one) => one >= range.first && one <= range.last);
  if (!alike.some(covers)) return `Too narrow: ${texts}.`;
  return `Asked for, and of something else, too early or not done: ${texts}.`;
}
