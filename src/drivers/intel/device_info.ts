// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../../base/errno.ts';
import type { Device } from '../../iommu/device.ts';
import type { Attachable } from './attachments.ts';
import type { EntryPlace } from './context_table.ts';
import { contextOfDevice, deviceIotlb, iotlbOfDomain } from './descriptors.ts';
import { PasidTable } from './pasid_table.ts';
import { ContextSlot, PasidSlot, type Slot } from './slot.ts';
import { QUANTUM_WORDS } from './translation.ts';
import type { Unit } from './unit.ts';

/** A device has a cache of translations of its own (ATS), which is on. */
export interface AtsInfo {
  /** Invalidations that it takes at once. */
  readonly queueDepth: number;
}

const PRESENT = 1;

/** What the driver knows of a device. Counterpart of `struct device_domain_info`. */
export class DeviceInfo {
  readonly device: Device;
  readonly unit: Unit;
  /** Bus, device and function, as its requests carry them. */
  readonly sourceId: number;
  readonly ats: AtsInfo | undefined;
  /** In scalable mode: every device has one of its own (B10). */
  readonly pasidTable: PasidTable | undefined;
  /** How its requests without PASID are translated. Slots of PASIDs come beside it. */
  readonly slot: Slot;
  /** What is attached; undefined is blocked. */
  attached: Attachable | undefined = undefined;
  readonly #context: EntryPlace;

  private constructor(
    device: Device,
    where: { unit: Unit; sourceId: number; ats: AtsInfo | undefined },
    context: EntryPlace,
    pasids: { table: PasidTable; place: EntryPlace } | undefined,
  ) {
    this.device = device;
    this.unit = where.unit;
    this.sourceId = where.sourceId;
    this.ats = where.ats;
    this.pasidTable = pasids?.table;
    this.#context = context;
    this.slot = pasids ? new PasidSlot(this, pasids.place) : new ContextSlot(this, context);
  }

  /** Prepares a device's entries, which block. Or -ENOMEM, or what a failed submission answers, and nothing has changed. */
  static create(
    device: Device,
    where: { unit: Unit; sourceId: number; ats: AtsInfo | undefined },
  ): DeviceInfo | number {
    const { unit, sourceId } = where;
    if (unit.allocFails()) return -Errno.ENOMEM;
    if (!unit.caps.isScalable) {
      const context = unit.contexts.place(sourceId);
      if (typeof context === 'number') return context;
      return new DeviceInfo(device, where, context, undefined);
    }
    const table = PasidTable.create(unit.memory);
    if (typeof table === 'number') return table;
    const place = table.place(0);
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

  /** Its requests are blocked already; the hardware forgets where its entries were. */
  free(): void {
    const { pasidTable, unit, sourceId, ats } = this;
    if (!pasidTable) return;
    const absent = unit.memory.read(this.#context.page, this.#context.word, QUANTUM_WORDS);
    absent[0] = ((absent[0] ?? 0) & ~PRESENT) >>> 0;
    this.#writeContext(absent);
    const batch = unit.takeBatch();
    contextOfDevice(batch.next(), 0, sourceId);
    if (ats) deviceIotlb(batch.next(), sourceId, ats.queueDepth, undefined);
    unit.submit(batch, true);
    this.#writeContext(new Uint32Array(QUANTUM_WORDS));
    pasidTable.free();
  }

  /** The context entry of scalable mode, which leads to the PASID table. Source: Linux `device_pasid_table_setup()`. */
  #setContext(table: PasidTable): number {
    const { unit, sourceId } = this;
    const words = table.contextEntry({
      hasDeviceIotlb: this.ats !== undefined,
      hasPasid: false,
      hasPageRequests: false,
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
