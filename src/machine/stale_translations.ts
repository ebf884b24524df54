// SPDX-License-Identifier: Apache-2.0
import { walkAccess } from '../generic_pt/access.ts';
import { frameOfIova, iovaOfFrame } from '../generic_pt/iova.ts';
import { type Device, NO_PASID } from '../iommu/device.ts';
import { DIRTY_NO_CLEAR, type Domain, DomainType, IotlbGather } from '../iommu/domain.ts';
import type { IommuGroup } from '../iommu/group.ts';
import { type DomainWatcher, PtDomain } from '../iommu/pt_domain.ts';
import { FRAME_SHIFT } from '../memory/frame.ts';
import type { DmaWitness, Translated } from '../pci/dma.ts';
import { type InvalidationNotice, isFault, type Translator } from '../pci/translator.ts';

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

interface Event {
  readonly text: string;
  /** What software asked to forget; absent for a change. */
  readonly asks?: InvalidationNotice;
  readonly concerns: (seen: Translated, domain: Domain | undefined) => boolean;
}

/** No cache: memory itself. */
const TABLES = 'tables';

/** Changes and requests that are remembered. */
const MOST_EVENTS = 1000;

/**
 * Knows what software is entitled to expect: what it has unmapped, cleaned or detached, and believes forgotten, no DMA uses any more. Each
 * DMA is compared, when it is done, with the tables of the domain that core has in force; while a flush or an attach is under way both
 * the old and the new are right. Guests' tables are their owners' business and are passed over.
 */
export class StaleTranslations implements DmaWitness, DomainWatcher {
  readonly #translatorOf: (device: Device) => Translator | undefined;
  readonly #report: (found: StaleTranslation) => void;
  readonly #heard = new Set<Translator>();
  readonly #events: Event[] = [];
  /** It looks into the caches: what it sees there is no DMA. */
  #isLooking = false;

  constructor(
    translatorOf: (device: Device) => Translator | undefined,
    report: (found: StaleTranslation) => void,
  ) {
    this.#translatorOf = translatorOf;
    this.#report = report;
  }

  sees(seen: Translated): void {
    if (this.#isLooking) return;
    const { group } = seen.device;
    const domain = group && domainOf(group, seen.pasid);
    const expected = expectationOf(seen, domain);
    if (expected === undefined || agrees(seen.frame, expected)) {
      if (domain instanceof PtDomain) this.#checkDirty(seen, domain);
      return;
    }
    this.#tell(seen, domain, expected);
  }

  synced(domain: PtDomain, { start, last }: IotlbGather): void {
    if (last < start) return;
    const [from, to] = [iovaOfFrame(start), iovaOfFrame(last + 1) - 1n];
    this.#note({
      text: `${hex(from)}-${hex(to)} unmapped or cleaned`,
      concerns: ({ iova }, of) => of === domain && iova >= from && iova <= to,
    });
  }

  #note(event: Event): void {
    this.#events.push(event);
    if (this.#events.length > MOST_EVENTS) this.#events.shift();
  }

  /** From before its first DMA on: what changes, and what is asked of its IOMMU. */
  follow(device: Device): void {
    const { group } = device;
    if (!group) return;
    group.onChange ??= (pasid) => {
      watch(domainOf(group, pasid), this);
      const at = pasid === NO_PASID ? '' : ` at PASID ${pasid}`;
      this.#note({
        text: `another domain attached${at}`,
        concerns: (seen) => seen.device.group === group && seen.pasid === pasid,
      });
    };
    const translator = this.#translatorOf(device);
    if (!translator || this.#heard.has(translator)) return;
    this.#heard.add(translator);
    translator.onInvalidation = (notice) =>
      this.#note({
        text: notice.text,
        asks: notice,
        concerns: (seen) => this.#translatorOf(seen.device) === translator,
      });
  }

  /** A write through an entry that says it was recorded is not recorded again. */
  #checkDirty(seen: Translated, domain: PtDomain): void {
    if (seen.access !== 'write' || seen.frame === undefined) return;
    if (!domain.isTracking || domain.isFlushing) return;
    let isDirty = false;
    const page = (seen.iova >> BigInt(FRAME_SHIFT)) << BigInt(FRAME_SHIFT);
    domain.readAndClear(page, 1, DIRTY_NO_CLEAR, new IotlbGather(), () => (isDirty = true));
    if (!isDirty) this.#tell(seen, domain, 'recorded');
  }

  #tell(seen: Translated, domain: Domain | undefined, expected: Expectation): void {
    const { device, pasid, iova, access, frame } = seen;
    const where = seen.byDevice ? 'device TLB' : this.#whereIs(seen, domain, expected);
    // A refusal that the tables make too has reasons of its own: not all that a device may do is in a domain.
    if (frame === undefined && where === TABLES) return;
    let at = this.#events.length - 1;
    while (at >= 0) {
      const event = this.#events[at];
      if (event && !event.asks && event.concerns(seen, domain)) break;
      at--;
    }
    const since = this.#events[at]?.text ?? 'its first attach';
    // A change is known when its flush is over: what was asked for it comes before.
    const asked = this.#askedFor(at, seen, domain);
    const who = pasid === NO_PASID ? device.name : `${device.name}, PASID ${pasid}`;
    const did = frame === undefined ? 'is refused' : `reaches frame ${hex(frame)}`;
    const text =
      `stale translation: ${access} of ${hex(iova)} by ${who} ${did} by the ${where}, ` +
      `where ${inWords(expected)}. Last change: ${since}. ${missing(where, iova, asked)}`;
    this.#report({ device: device.name, pasid, iova, where, since, asked, text });
  }

  /** What was asked between the change before and the one after. */
  #askedFor(at: number, seen: Translated, domain: Domain | undefined): InvalidationNotice[] {
    let from = at - 1;
    while (from >= 0 && this.#events[from]?.asks) from--;
    return this.#events
      .slice(Math.max(from + 1, 0))
      .filter((event) => event.concerns(seen, domain))
      .flatMap(({ asks }) => asks ?? []);
  }

  /** Empties one cache after the other: the one after which the answer is right had it. */
  #whereIs(seen: Translated, domain: Domain | undefined, expected: Expectation): string {
    const { device, pasid, iova, access, mode } = seen;
    const translator = this.#translatorOf(device);
    if (!translator) return TABLES;
    this.#isLooking = true;
    try {
      for (const cache of translator.caches ?? []) {
        cache.clear();
        const now = translator.translate(device, pasid, iova, access, mode);
        if (expected === 'recorded') {
          if (domain instanceof PtDomain && this.#isRecorded(domain, iova)) return cache.name;
        } else if (agrees(isFault(now) ? undefined : now.frame, expected)) return cache.name;
      }
    } finally {
      this.#isLooking = false;
    }
    return TABLES;
  }

  #isRecorded(domain: PtDomain, iova: bigint): boolean {
    let isDirty = false;
    const page = (iova >> BigInt(FRAME_SHIFT)) << BigInt(FRAME_SHIFT);
    domain.readAndClear(page, 1, DIRTY_NO_CLEAR, new IotlbGather(), () => (isDirty = true));
    return isDirty;
  }
}

const domainOf = (group: IommuGroup, pasid: number): Domain | undefined =>
  pasid === NO_PASID ? group.domain : group.domainAt(pasid);

function watch(domain: Domain | undefined, watcher: DomainWatcher): void {
  if (domain instanceof PtDomain) domain.watcher = watcher;
}

/** The frame that is right; `nothing`: it must be refused; `recorded`: a write has to show in the dirty bits. */
type Expectation = number | 'nothing' | 'recorded';

/** Undefined where nothing is certain: a change is under way, or the tables are not ours to read. */
function expectationOf(
  { device, iova, access }: Translated,
  domain: Domain | undefined,
): Expectation | undefined {
  const { group } = device;
  if (!group || group.mutex.isLocked || !domain) return undefined;
  if (domain.type === DomainType.BLOCKED) return 'nothing';
  if (domain.type === DomainType.IDENTITY) return Math.floor(frameOfIova(iova));
  if (!(domain instanceof PtDomain) || domain.isFlushing) return undefined;
  if (iova < domain.apertureStart || iova > domain.apertureLast) return 'nothing';
  const found = walkAccess(domain.table, Math.floor(frameOfIova(iova)), access === 'write');
  return typeof found === 'string' ? 'nothing' : found.frame;
}

const agrees = (frame: number | undefined, expected: Expectation): boolean =>
  frame === undefined ? expected === 'nothing' : frame === expected;

const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

function inWords(expected: Expectation): string {
  if (expected === 'nothing') return 'the tables allow nothing';
  if (expected === 'recorded') return 'the write is not recorded';
  return `the tables have frame ${hex(expected)}`;
}

/** What should have been asked for, and what was instead. Paging-structure caches go with the IOTLB. */
function missing(where: string, iova: bigint, asked: readonly InvalidationNotice[]): string {
  if (where === TABLES) return 'The tables in memory say so: the driver wrote them wrong.';
  const cache = where === 'paging-structure caches' ? 'IOTLB' : where;
  const alike = asked.filter((one) => one.cache === cache);
  const texts = alike.map(({ text }) => text).join('; ');
  if (alike.length === 0) return `Missing: an invalidation of the ${where}.`;
  const covers = ({ range }: InvalidationNotice): boolean =>
    !range || (iova >= range.first && iova <= range.last);
  if (!alike.some(covers)) return `Too narrow: ${texts}.`;
  return `Asked for, and of something else, too early or not done: ${texts}.`;
}
