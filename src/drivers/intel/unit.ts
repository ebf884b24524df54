// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../../base/errno.ts';
import type { IommuCore } from '../../iommu/core.ts';
import type { Hardware, InterruptMessage } from '../../kernel/hardware.ts';
import { FRAME_SIZE } from '../../memory/frame.ts';
import type { Ram } from '../../memory/ram.ts';
import { Batch } from './batch.ts';
import { Capabilities } from './capabilities.ts';
import { ContextTables } from './context_table.ts';
import type { DeviceInfo } from './device_info.ts';
import { allContexts, allIotlb, allPasidCaches, type Drains } from './descriptors.ts';
import { DomainIds } from './domain_ids.ts';
import { type FaultReport, takeFaults } from './fault_events.ts';
import { InvalidationQueue } from './invalidation_queue.ts';
import { PageRequests } from './page_requests.ts';
import { Fectl, Gcmd, Pmen, Reg, Rtaddr } from './registers.ts';
import { TableMemory } from './table_memory.ts';

/** How long a command may take, in ns. Source: Linux DMAR_OPERATION_TIMEOUT, 10 s. */
const TIMEOUT_NS = 10e9;
/** Often enough for what fails only with the hardware. */
const ATTEMPTS = 8;
/** No requester has it. */
const NO_DEVICE = -1;
/** What of GSTS is state, and is written back with each command; the rest are commands of one shot. */
const STATES = Gcmd.TE + Gcmd.QIE + Gcmd.IRE;
/** No table of the specification is narrower; a unit that says so is broken. */
const LEAST_ADDRESS_BITS = 30;

/** Told of accesses that the unit refused. */
export type FaultListener = (unit: Unit, report: FaultReport) => void;

/** One VT-d unit: its registers, tables and queue. Counterpart of `struct intel_iommu`. */
export class Unit {
  readonly name: string;
  readonly core: IommuCore;
  readonly hardware: Hardware;
  readonly caps: Capabilities;
  readonly memory: TableMemory;
  readonly contexts: ContextTables;
  readonly queue: InvalidationQueue;
  readonly dids: DomainIds;
  /** Undefined where it has none. */
  pageRequests: PageRequests | undefined = undefined;
  readonly drains: Drains;
  /** For tables of domains: items of 8 bytes that a walker shall see. */
  readonly flushItems: (table: number, index: number, items: number) => void;
  /** Behind it, by bus, device and function. */
  readonly devices = new Map<number, DeviceInfo>();
  #interrupt: InterruptMessage | undefined = undefined;
  /** Some device's own cache was turned off as it did not answer. */
  #hasLost = false;
  /** Batches that are not in use; one for each submission under way is made. */
  readonly #batches: Batch[] = [];

  private constructor(
    name: string,
    core: IommuCore,
    hardware: Hardware,
    parts: {
      caps: Capabilities;
      memory: TableMemory;
      contexts: ContextTables;
      queue: InvalidationQueue;
    },
  ) {
    const { caps } = parts;
    this.name = name;
    this.core = core;
    this.hardware = hardware;
    this.caps = caps;
    this.memory = parts.memory;
    this.contexts = parts.contexts;
    this.queue = parts.queue;
    this.dids = new DomainIds(caps.domainIds);
    this.drains = { reads: caps.cap.drd === 1, writes: caps.cap.dwd === 1 };
    this.flushItems = (table, index, items) => hardware.mem.flush(table, index * 8, items * 8);
  }

  get ram(): Ram {
    return this.hardware.mem.ram;
  }

  /**
   * Finds out what a unit can do and turns its translation on, with nothing present: all DMA behind it is blocked. Or -ENODEV (not a VT-d
   * unit that this driver can use), -ENOMEM, -ETIMEDOUT, -EIO, and the unit is off.
   */
  static start(
    name: string,
    core: IommuCore,
    hardware: Hardware,
    onFault: FaultListener,
  ): Unit | number {
    const { mmio, mem } = hardware;
    const [capReg, ecapReg] = [mmio.read64(Reg.CAP), mmio.read64(Reg.ECAP)];
    const allOnes = 2n ** 64n - 1n;
    if ((capReg === allOnes && ecapReg === allOnes) || mmio.read32(Reg.VER) === 0) {
      return -Errno.ENODEV;
    }
    const caps = new Capabilities(capReg, ecapReg);
    if (caps.ecap.qi === 0 || caps.maxAddressBits < LEAST_ADDRESS_BITS) return -Errno.ENODEV;
    if (!caps.secondStageWidth() && !caps.hasFirstStage) return -Errno.ENODEV;
    const flush = caps.isCoherent
      ? undefined
      : (frame: number, byte: number, bytes: number): void => mem.flush(frame, byte, bytes);
    const memory = new TableMemory(mem.ram, core.sim, flush);
    const contexts = ContextTables.create(memory, caps.isScalable);
    if (typeof contexts === 'number') return contexts;
    const queue = InvalidationQueue.create({
      hardware,
      faults: core.sim.faults,
      isWide: caps.isScalable,
      isIncoherent: !caps.isCoherent,
    });
    if (typeof queue === 'number') {
      contexts.free();
      return queue;
    }
    const unit = new Unit(name, core, hardware, { caps, memory, contexts, queue });
    const rc = unit.#turnOn(onFault);
    if (rc === 0) return unit;
    unit.stop();
    return rc;
  }

  /** Turns it off, and gives back its memory. No device is behind it any more. */
  stop(): void {
    this.#command(Gcmd.TE, false);
    this.pageRequests?.stop();
    this.pageRequests = undefined;
    this.#command(Gcmd.QIE, false);
    if (this.#interrupt) this.hardware.irq.release(this.#interrupt);
    this.#interrupt = undefined;
    this.queue.free();
    this.contexts.free();
  }

  /** An allocation that Linux would make fails by injection. */
  allocFails(): boolean {
    return this.core.allocFails();
  }

  /** An empty batch; `submit` takes it back. */
  takeBatch(): Batch {
    return this.#batches.pop() ?? new Batch();
  }

  /**
   * Has the hardware carry out a batch. 0, or a negative errno. With `mustSucceed` it is tried again, without what a device does not
   * complete, and what still fails is reported: nothing but broken hardware is left as its cause.
   */
  submit(batch: Batch, mustSucceed: boolean): number {
    let rc = this.#submitOnce(batch);
    const attempts = mustSucceed ? ATTEMPTS : 1;
    for (let attempt = 1; rc !== 0 && attempt < attempts; attempt++) rc = this.#submitOnce(batch);
    if (rc !== 0 && mustSucceed) {
      this.core.warn(`${this.name}: its invalidation queue does not answer (${rc})`);
    }
    batch.reset();
    this.#batches.push(batch);
    return rc;
  }

  /** A device is gone. */
  forget(info: DeviceInfo): void {
    this.devices.delete(info.sourceId);
  }

  /** Once; and again, without it, where a device did not complete its part. */
  #submitOnce(batch: Batch): number {
    for (;;) {
      if (this.#hasLost) for (const id of batch.devices) this.#dropUnlessOn(batch, id);
      const rc = this.queue.submit(batch);
      const info = this.devices.get(this.queue.takeTimedOut() ?? NO_DEVICE);
      if (!info?.isAtsOn) return rc;
      this.#hasLost = true;
      info.distrust();
    }
  }

  #dropUnlessOn(batch: Batch, sourceId: number): void {
    if (!this.devices.get(sourceId)?.isAtsOn) batch.dropDevice(sourceId);
  }

  /** What the hardware keeps of writes to memory is written, where it says that it needs this. 0, or -ETIMEDOUT. */
  flushWriteBuffer(): number {
    return this.caps.flushesWriteBuffer ? this.#oneShot(Gcmd.WBF, false) : 0;
  }

  #turnOn(onFault: FaultListener): number {
    const { mmio, irq } = this.hardware;
    this.#disableProtectedRegions();
    // What firmware may have left on.
    for (const state of [Gcmd.TE, Gcmd.QIE]) {
      const rc = this.#command(state, false);
      if (rc !== 0) return rc;
    }
    this.#interrupt = irq.request(() => {
      onFault(this, takeFaults(this.hardware, this.caps));
    });
    const { address, data } = this.#interrupt;
    mmio.write32(Reg.FEDATA, data);
    mmio.write32(Reg.FEADDR, Number(address & 0xffff_ffffn));
    mmio.write32(Reg.FEUADDR, Number(address >> 32n));
    // What was recorded before is nobody's.
    takeFaults(this.hardware, this.caps);
    mmio.write32(Reg.FECTL, mmio.read32(Reg.FECTL) & ~Fectl.IM);
    this.queue.start();
    let rc = this.#command(Gcmd.QIE, true);
    if (rc !== 0) return rc;
    const root = BigInt(this.contexts.root) * BigInt(FRAME_SIZE);
    mmio.write64(Reg.RTADDR, root | BigInt(this.caps.isScalable ? Rtaddr.SCALABLE : 0));
    rc = this.#oneShot(Gcmd.SRTP, true);
    if (rc === 0) rc = this.#forgetAll();
    if (rc === 0) rc = this.#startPageRequests();
    return rc === 0 ? this.#command(Gcmd.TE, true) : rc;
  }

  /** A new root table: nothing that is cached is of it. One after another, as what one holds comes from what is before. */
  #forgetAll(): number {
    const fills = [
      allContexts,
      ...(this.caps.isScalable ? [allPasidCaches] : []),
      (at: Uint32Array): void => allIotlb(at, this.drains),
    ];
    for (const fill of fills) {
      const batch = this.takeBatch();
      fill(batch.next());
      const rc = this.submit(batch, false);
      if (rc !== 0) return rc;
    }
    return 0;
  }

  #startPageRequests(): number {
    if (!this.caps.hasPageRequests) return 0;
    const made = PageRequests.create(this);
    if (typeof made === 'number') return made;
    this.pageRequests = made;
    made.start();
    return 0;
  }

  #disableProtectedRegions(): void {
    const { mmio, clock } = this.hardware;
    const { plmr, phmr } = this.caps.cap;
    if (plmr === 0 && phmr === 0) return;
    mmio.write32(Reg.PMEN, mmio.read32(Reg.PMEN) & ~Pmen.EPM);
    clock.poll(() => (mmio.read32(Reg.PMEN) & Pmen.PRS) === 0, TIMEOUT_NS);
  }

  /** Turns a state on or off, and waits until it is. 0, or -ETIMEDOUT. */
  #command(state: number, isOn: boolean): number {
    const { mmio } = this.hardware;
    const before = (mmio.read32(Reg.GSTS) & STATES) >>> 0;
    const isOnBefore = (before & state) !== 0;
    if (isOnBefore === isOn) return 0;
    mmio.write32(Reg.GCMD, (isOn ? before | state : before & ~state) >>> 0);
    return this.#waitForStatus(state, isOn);
  }

  /** A command that sets its bit of GSTS when it is done (`isSet`), or clears it. */
  #oneShot(command: number, isSet: boolean): number {
    const { mmio } = this.hardware;
    const before = (mmio.read32(Reg.GSTS) & STATES) >>> 0;
    mmio.write32(Reg.GCMD, (before | command) >>> 0);
    return this.#waitForStatus(command, isSet);
  }

  #waitForStatus(bit: number, isSet: boolean): number {
    const { mmio, clock } = this.hardware;
    const holds = (): boolean => ((mmio.read32(Reg.GSTS) & bit) !== 0) === isSet;
    return holds() || clock.poll(holds, TIMEOUT_NS) ? 0 : -Errno.ETIMEDOUT;
  }
}
