// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../../base/errno.ts';
import { type Device, NO_PASID } from '../../iommu/device.ts';
import { type Attachable, attachDomain } from './attachments.ts';
import type { EntryPlace } from './context_table.ts';
import {
  contextOfDevice,
  deviceIotlb,
  deviceIotlbOfPasid,
  iotlbOfDomain,
  type PageRange,
} from './descriptors.ts';
import type { DeviceFunction } from './device_function.ts';
import { DevicePasid } from './device_pasid.ts';
import { PAGE_REQUESTS } from './page_requests.ts';
import { PasidTable } from './pasid_table.ts';
import { ContextSlot, PasidSlot, type Slot, withoutDeviceIotlb } from './slot.ts';
import { QUANTUM_WORDS } from './translation.ts';
import type { Unit } from './unit.ts';

const PRESENT = 1;
/** Translations for the device, and its page requests, in a context entry of scalable mode. */
const DEVICE_FEATURES = (1 << 2) | (1 << 4);

/** Where a device is, and what its function has. */
interface Place {
  readonly unit: Unit;
  readonly sourceId: number;
  readonly fn: DeviceFunction;
  /** Of its physical function, where it is a virtual one. */
  readonly physicalSourceId?: number | undefined;
}

/** What the driver knows of a device. Counterpart of `struct device_domain_info`. */
export class DeviceInfo {
  readonly device: Device;
  readonly unit: Unit;
  /** Bus, device and function, as its requests carry them. */
  readonly sourceId: number;
  /** What its function has and its unit has a use for. */
  readonly fn: DeviceFunction;
  /** In scalable mode: every device has one of its own (B10). */
  readonly pasidTable: PasidTable | undefined;
  /** Its requests without PASID. */
  readonly rid: DevicePasid;
  /** Its own cache is on: it is told what to forget. */
  isAtsOn = false;
  #isDistrusted = false;
  /** It may ask for pages, and groups whose requests had a PASID and are not answered. */
  #isPriOn = false;
  readonly groupsWithPasid = new Set<number>();
  /** Who takes its page requests: domains, and handlers beside them. */
  #faultUsers = 0;
  readonly #physicalSourceId: number;
  readonly #context: EntryPlace;
  /** By PASID: those that something is attached to. */
  readonly #pasids = new Map<number, DevicePasid>();

  private constructor(
    device: Device,
    { unit, sourceId, fn, physicalSourceId }: Place,
    context: EntryPlace,
    pasids: { table: PasidTable; place: EntryPlace } | undefined,
  ) {
    this.device = device;
    this.unit = unit;
    this.sourceId = sourceId;
    this.fn = fn;
    this.#physicalSourceId = physicalSourceId ?? sourceId;
    this.pasidTable = pasids?.table;
    this.#context = context;
    const slot = pasids ? new PasidSlot(this, pasids.place) : new ContextSlot(this, context);
    this.rid = new DevicePasid(this, NO_PASID, slot);
  }

  /** Prepares a device's entries, which block. Or -ENOMEM, or what a failed submission answers, and nothing has changed. */
  static create(device: Device, where: Place): DeviceInfo | number {
    const { unit, sourceId } = where;
    if (unit.allocFails()) return -Errno.ENOMEM;
    if (!unit.caps.isScalable) {
      const context = unit.contexts.place(sourceId);
      if (typeof context === 'number') return context;
      return new DeviceInfo(device, where, context, undefined);
    }
    const table = PasidTable.create(unit.memory, pasidsOf(device, where));
    if (typeof table === 'number') return table;
    const place = table.place(NO_PASID);
    // Last, as a table of a bus stays once it is made.
    const context = typeof place === 'number' ? place : unit.contexts.place(sourceId);
    if (typeof place === 'number' || typeof context === 'number') {
      table.free();
      return typeof place === 'number' ? place : -Errno.ENOMEM;
    }
    const info = new DeviceInfo(device, where, context, { table, place });
    const rc = info.#setContext(table);
    if (rc === 0) return info;
    info.free();
    return rc;
  }

  /** How its requests without PASID are translated. */
  get slot(): Slot {
    return this.rid.slot;
  }

  /** What is attached to its requests without PASID. */
  get attached(): Attachable | undefined {
    return this.rid.attached;
  }

  /** It may have translations to keep. */
  get hasAts(): boolean {
    return this.fn.ats !== undefined && !this.#isDistrusted;
  }

  /** PASIDs that something is attached to. */
  get pasids(): ReadonlyMap<number, DevicePasid> {
    return this.#pasids;
  }

  /** The PASID's place, made where it is missing: `forget` drops it. Or -EOPNOTSUPP (no PASIDs here), -ENOMEM. */
  at(pasid: number): DevicePasid | number {
    if (pasid === NO_PASID) return this.rid;
    const known = this.#pasids.get(pasid);
    if (known) return known;
    if (!this.fn.pasid || !this.pasidTable) return -Errno.EOPNOTSUPP;
    if (this.unit.allocFails()) return -Errno.ENOMEM;
    const place = this.pasidTable.place(pasid);
    if (typeof place === 'number') return place;
    const made = new DevicePasid(this, pasid, new PasidSlot(this, place, pasid));
    this.#pasids.set(pasid, made);
    return made;
  }

  /** Drops what is known of a PASID that nothing is attached to. */
  forget(at: DevicePasid): void {
    if (!at.attached) this.#pasids.delete(at.pasid);
  }

  /**
   * Turns on what the function has: PASIDs before ATS, as PCIe wants it. In legacy mode ATS waits for a table. Source: Linux
   * `intel_iommu_probe_finalize()`.
   */
  turnOn(): void {
    this.fn.pasid?.enable(true);
    this.updateAts();
    this.#turnOnPri();
  }

  /** Linux `iommu_enable_pci_pri()`. */
  #turnOnPri(): void {
    const { pri, pasid } = this.fn;
    if (!pri || !this.isAtsOn || (pasid && !pri.pasidRequired)) return;
    pri.reset();
    this.#isPriOn = pri.enable(PAGE_REQUESTS);
  }

  #turnOffPri(): void {
    if (this.#isPriOn) this.fn.pri?.disable();
    this.#isPriOn = false;
  }

  /** It can wait for a page (A3). */
  get canFault(): boolean {
    return this.#isPriOn;
  }

  /** One more user of its page requests. 0, or -ENODEV (it has none), -ENOMEM. */
  enableFaults(): number {
    const { pageRequests } = this.unit;
    if (!this.#isPriOn || !pageRequests) return -Errno.ENODEV;
    const rc = this.#faultUsers === 0 ? pageRequests.iopf.addDevice(this.device) : 0;
    if (rc === 0) this.#faultUsers++;
    return rc;
  }

  /** One less; with the last one they are off. What was on its way has been drained. */
  disableFaults(): void {
    if (--this.#faultUsers > 0 || !this.device.faultParam) return;
    this.unit.pageRequests?.iopf.removeDevice(this.device);
  }

  /** Nothing that it asked for at a PASID, or without (0), is on its way any more. */
  drainFaults(pasid: number): void {
    if (this.#faultUsers > 0) this.unit.pageRequests?.drain(this, pasid);
  }

  /** Its own cache is on while it can be asked for translations: in scalable mode always, in legacy mode with a table. */
  updateAts(): void {
    const kind = this.unit.caps.isScalable ? 'second' : this.slot.translation?.kind;
    const wanted = this.hasAts && kind === 'second';
    if (wanted === this.isAtsOn) return;
    this.isAtsOn = wanted;
    this.fn.ats?.enable(wanted);
  }

  /** What its own cache is to forget, at a PASID or without: a range, or all. */
  describeFlush(at: Uint32Array, pasid: number, range: PageRange | undefined): void {
    const { unit, sourceId, fn } = this;
    const physicalSourceId = unit.caps.ecap.dit === 1 ? this.#physicalSourceId : 0;
    const tlb = { sourceId, physicalSourceId, queueDepth: fn.ats?.queueDepth ?? 1 };
    if (pasid === NO_PASID) deviceIotlb(at, tlb, range);
    else deviceIotlbOfPasid(at, tlb, pasid, range);
  }

  /** It left an invalidation unanswered, and what it keeps may be stale: the hardware refuses what it has translated itself. */
  distrust(): void {
    const { unit, sourceId } = this;
    this.#isDistrusted = true;
    const { page, word } = this.#context;
    const [lo = 0] = unit.memory.read(page, word, 1);
    unit.memory.write(
      page,
      word,
      Uint32Array.of(unit.caps.isScalable ? (lo & ~DEVICE_FEATURES) >>> 0 : withoutDeviceIotlb(lo)),
    );
    const batch = unit.takeBatch();
    contextOfDevice(
      batch.next(),
      didOfContext(unit.memory.read(page, word, QUANTUM_WORDS)),
      sourceId,
    );
    unit.submit(batch, true);
    this.#turnOffPri();
    this.updateAts();
    unit.core.warn(
      `${this.device.name} does not complete invalidations of its translations: it gets none any more, and those that it has are refused`,
    );
  }

  /** Its requests are blocked already; the hardware forgets where its entries were. */
  free(): void {
    for (const at of this.#pasids.values()) attachDomain(at, undefined);
    const { pasidTable, unit, sourceId } = this;
    this.#turnOffPri();
    if (this.isAtsOn) {
      this.isAtsOn = false;
      this.fn.ats?.enable(false);
    }
    this.fn.pasid?.enable(false);
    if (!pasidTable) return;
    const absent = unit.memory.read(this.#context.page, this.#context.word, QUANTUM_WORDS);
    absent[0] = ((absent[0] ?? 0) & ~PRESENT) >>> 0;
    this.#writeContext(absent);
    const batch = unit.takeBatch();
    contextOfDevice(batch.next(), 0, sourceId);
    unit.submit(batch, true);
    this.#writeContext(new Uint32Array(QUANTUM_WORDS));
    pasidTable.free();
  }

  /** The context entry of scalable mode, which leads to the PASID table. Source: Linux `device_pasid_table_setup()`. */
  #setContext(table: PasidTable): number {
    const { unit, sourceId } = this;
    const words = table.contextEntry({
      hasDeviceIotlb: this.fn.ats !== undefined,
      hasPasid: this.fn.pasid !== undefined,
      hasPageRequests: this.fn.pri !== undefined,
    });
    this.#writeContext(words);
    if (!unit.caps.hasCachingMode) return unit.flushWriteBuffer();
    // What is not present is cached under domain id 0.
    for (const fill of [
      (at: Uint32Array) => contextOfDevice(at, 0, sourceId),
      (at: Uint32Array) => iotlbOfDomain(at, 0, unit.drains),
    ]) {
      const batch = unit.takeBatch();
      fill(batch.next());
      const rc = unit.submit(batch, false);
      if (rc !== 0) return rc;
    }
    return 0;
  }

  /** The first of the entry's two quanta: the second is always 0. */
  #writeContext(words: Uint32Array): void {
    this.unit.memory.write(this.#context.page, this.#context.word, words);
  }
}

/** PASIDs that a device's table needs room for. */
function pasidsOf({ pasidBits = 0 }: Device, { unit, fn }: Place): number {
  return fn.pasid ? Math.min(2 ** pasidBits, unit.caps.maxPasids) : 0;
}

/** The domain id in a context entry of legacy mode; scalable mode does not look at it. */
const didOfContext = ([, , w2 = 0]: Uint32Array): number => (w2 >>> 8) & 0xffff;
