// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../../base/errno.ts';
import { NO_PASID } from '../../iommu/device.ts';
import { PagePerm, PageRequestFlags, PageResponseCode } from '../../iommu/fault.ts';
import { IopfQueue, reportDeviceFault } from '../../iommu/io_pgfault.ts';
import type { InterruptMessage } from '../../kernel/hardware.ts';
import { FRAME_SIZE } from '../../memory/frame.ts';
import type { Body } from '../../sim/task.ts';
import { fence, type GroupAnswer, iotlbOfPasid, pageGroupResponse } from './descriptors.ts';
import type { DeviceInfo } from './device_info.ts';
import { type PageRequestDescriptor, readPageRequest } from './page_request_descriptor.ts';
import { Pectl, Prs, Reg } from './registers.ts';
import { PASS_THROUGH_DID } from './translation.ts';
import type { Unit } from './unit.ts';

/** The queue has 2^4 pages (PQS), of 128 descriptors each. Source: Linux PRQ_ORDER. */
const PAGES_LG2 = 4;
const DESCRIPTOR_BYTES = 32;
export const PAGE_REQUESTS = 2 ** PAGES_LG2 * (4096 / DESCRIPTOR_BYTES);
/** How often a drain is begun again where requests came faster than there was room for. */
const DRAINS = 8;

/**
 * The page-request queue of a unit: descriptors that the hardware writes into memory, and a task that takes them when an interrupt says so.
 * Counterpart of drivers/iommu/intel/prq.c; VTD-5.10 §7.4 to §7.10.
 */
export class PageRequests {
  /** The same queue as core has it. */
  readonly iopf: IopfQueue;
  readonly #unit: Unit;
  /** First frame. */
  readonly #memory: number;
  /** The descriptor that is to be handled next. */
  #next = 0;
  #interrupt: InterruptMessage | undefined = undefined;
  /** An interrupt came that the task has not seen; and the task is at work. */
  #isRaised = false;
  #isServing = false;

  private constructor(unit: Unit, memory: number) {
    this.#unit = unit;
    this.#memory = memory;
    this.iopf = new IopfQueue(unit.core);
  }

  /** Memory for the queue; or -ENOMEM. The hardware does not know it before `start`. */
  static create(unit: Unit): PageRequests | number {
    const memory = unit.ram.alloc(1 + PAGES_LG2);
    if (memory < 0 || unit.allocFails()) {
      if (memory >= 0) unit.ram.free(memory);
      return -Errno.ENOMEM;
    }
    return new PageRequests(unit, memory);
  }

  start(): void {
    const { mmio, irq } = this.#unit.hardware;
    mmio.write64(Reg.PQH, 0n);
    mmio.write64(Reg.PQT, 0n);
    mmio.write64(Reg.PQA, BigInt(this.#memory) * BigInt(FRAME_SIZE) + BigInt(PAGES_LG2));
    this.#interrupt = irq.request(() => this.#onInterrupt());
    const { address, data } = this.#interrupt;
    mmio.write32(Reg.PEDATA, data);
    mmio.write32(Reg.PEADDR, Number(address & 0xffff_ffffn));
    mmio.write32(Reg.PEUADDR, Number(address >> 32n));
    // What firmware may have left on: an interrupt comes only where nothing waits for one.
    mmio.write32(Reg.PRS, Prs.PPR | Prs.PRO);
    mmio.write32(Reg.PECTL, mmio.read32(Reg.PECTL) & ~Pectl.IM);
  }

  stop(): void {
    const { mmio, irq } = this.#unit.hardware;
    mmio.write32(Reg.PECTL, Pectl.IM);
    for (const at of [Reg.PQH, Reg.PQT, Reg.PQA]) mmio.write64(at, 0n);
    if (this.#interrupt) irq.release(this.#interrupt);
    this.#interrupt = undefined;
    this.#unit.ram.free(this.#memory);
  }

  /**
   * By the time it returns nothing that the device asked for at a PASID (0: without one) is on its way: it is with who handles it, or
   * answered, and no answer is on its way to the device (C4). The PASID's translations have been changed and forgotten already. Source:
   * Linux `intel_iommu_drain_pasid_prq()`, VTD-5.10 §7.10.
   */
  drain(info: DeviceInfo, pasid: number): void {
    const { unit, device } = info;
    this.#handleAllOf(info.sourceId, pasid);
    this.iopf.flushDevice(device);
    for (let attempt = 1; ; attempt++) {
      const batch = unit.takeBatch();
      fence(batch.next());
      // Of any granularity: it pushes what the device has sent ahead of its answer, so the least.
      iotlbOfPasid(batch.next(), PASS_THROUGH_DID, pasid);
      if (info.isAtsOn) info.describeFlush(batch.next(), pasid, { page: 0, maskLg2: 0 });
      batch.drainsPageRequests = true;
      unit.submit(batch, true);
      if ((unit.hardware.mmio.read32(Reg.PRS) & Prs.PRO) === 0) break;
      // What had no room was answered by the hardware, and those answers are on their way.
      this.#makeRoom();
      if (attempt < DRAINS) continue;
      unit.core.warn(`${unit.name}: page requests come faster than they can be drained`);
      break;
    }
    this.#handleAllOf(info.sourceId, pasid);
    this.iopf.flushDevice(device);
  }

  #onInterrupt(): void {
    this.#isRaised = true;
    if (this.#isServing) return;
    this.#isServing = true;
    this.#unit.core.sim.spawn(`${this.#unit.name} page requests`, () => this.#serve());
  }

  /** What Linux does in the thread of the interrupt. */
  *#serve(): Body {
    const { mmio } = this.#unit.hardware;
    while (this.#isRaised) {
      this.#isRaised = false;
      // First, so that what comes from here on interrupts again.
      mmio.write32(Reg.PRS, Prs.PPR);
      yield 'page requests are acknowledged';
      do {
        while (this.#interrupt && this.#pending() > 0) {
          this.#handleNext();
          yield 'a page request was handled';
        }
        if (!this.#interrupt) return;
        mmio.write64(Reg.PQH, BigInt(this.#next * DESCRIPTOR_BYTES));
        yield 'the hardware has room again';
      } while (this.#interrupt && !this.#endOverflow());
    }
    this.#isServing = false;
  }

  /** Descriptors that wait. */
  #pending(): number {
    for (;;) {
      const next = this.#next;
      const tail = Number(this.#unit.hardware.mmio.read64(Reg.PQT)) / DESCRIPTOR_BYTES;
      // While a register is read others run.
      if (next === this.#next) return (tail - next + PAGE_REQUESTS) % PAGE_REQUESTS;
    }
  }

  /** Handles what is in the queue up to the last that a device asked for at a PASID. */
  #handleAllOf(sourceId: number, pasid: number): void {
    const count = this.#pending();
    let wanted = 0;
    for (let i = 0; i < count; i++) {
      const request = this.#read((this.#next + i) % PAGE_REQUESTS);
      if (request.sourceId === sourceId && (request.pasid ?? NO_PASID) === pasid) wanted = i + 1;
    }
    const end = (this.#next + wanted) % PAGE_REQUESTS;
    // The task goes on with them too, wherever others run.
    while (wanted-- > 0 && this.#next !== end) this.#handleNext();
  }

  /** All that is in the queue is handled, and the hardware goes on writing. */
  #makeRoom(): void {
    do {
      while (this.#pending() > 0) this.#handleNext();
      this.#unit.hardware.mmio.write64(Reg.PQH, BigInt(this.#next * DESCRIPTOR_BYTES));
    } while (!this.#endOverflow());
  }

  /** Requests were lost for want of room: once the queue is empty the hardware may go on. False where it is not empty. */
  #endOverflow(): boolean {
    const { mmio } = this.#unit.hardware;
    if ((mmio.read32(Reg.PRS) & Prs.PRO) === 0) return true;
    if (this.#pending() > 0) return false;
    this.iopf.discardPartial();
    mmio.write32(Reg.PRS, Prs.PRO);
    return true;
  }

  #read(index: number): PageRequestDescriptor {
    const { ram } = this.#unit;
    const lane = ram.laneOf(this.#memory) + (index * DESCRIPTOR_BYTES) / 4;
    return readPageRequest(ram.lanesOf(this.#memory), lane);
  }

  #handleNext(): void {
    const request = this.#read(this.#next);
    this.#next = (this.#next + 1) % PAGE_REQUESTS;
    // A stop marker: nobody waits for an answer.
    const isStopMarker = request.isLast && !request.read && !request.write;
    const isBad = this.#isBad(request);
    if (isStopMarker && !isBad) return;
    const info = isBad ? undefined : this.#unit.devices.get(request.sourceId);
    if (info) this.#report(info, request);
    else this.#refuse(request);
  }

  /** What no handler is asked about. Source: Linux `prq_event_thread()`. */
  #isBad({ address, read, write, execute, privileged }: PageRequestDescriptor): boolean {
    const bits = this.#unit.caps.cap.fl5lp === 1 ? 57n : 48n;
    const sign = address >> (bits - 1n);
    if (sign !== 0n && sign !== 2n ** (65n - bits) - 1n) return true;
    return (privileged && (read || write)) || (execute && read);
  }

  #refuse(request: PageRequestDescriptor): void {
    const { sourceId, group } = request;
    const device = this.#unit.devices.get(sourceId)?.device;
    if (!wantsAnswer(request)) return;
    device?.faultParam?.takePartial(group);
    this.respond(request, PageResponseCode.INVALID);
  }

  #report(info: DeviceInfo, request: PageRequestDescriptor): void {
    const { pasid, group, read, write, execute, privileged, address, privateData } = request;
    if (wantsAnswer(request) && pasid !== undefined) info.groupsWithPasid.add(group);
    reportDeviceFault(info.device, {
      flags:
        (pasid === undefined ? 0 : PageRequestFlags.PASID_VALID | PageRequestFlags.NEEDS_PASID) |
        (wantsAnswer(request) ? PageRequestFlags.LAST_PAGE : 0) |
        (privateData === undefined ? 0 : PageRequestFlags.PRIVATE_DATA),
      pasid: pasid ?? NO_PASID,
      grpid: group,
      perm:
        (read ? PagePerm.READ : 0) |
        (write ? PagePerm.WRITE : 0) |
        (execute ? PagePerm.EXEC : 0) |
        (privileged ? PagePerm.PRIV : 0),
      addr: address,
      ...(privateData === undefined ? {} : { privateData }),
    });
  }

  /** The answer to a group, on its way to the device. */
  respond(to: Omit<GroupAnswer, 'code'>, code: PageResponseCode): void {
    const { sourceId, pasid, group, privateData } = to;
    const batch = this.#unit.takeBatch();
    pageGroupResponse(batch.next(), { sourceId, pasid, group, privateData, code: CODES[code] });
    this.#unit.submit(batch, true);
  }
}

/** The last of a group; and what has private data of the hardware, wherever it is in its group. Source: Linux 6.5 drivers/iommu/intel/svm.c. */
const wantsAnswer = ({ isLast, privateData }: PageRequestDescriptor): boolean =>
  isLast || privateData !== undefined;

/** As the hardware has them: 2 to 14 are reserved. */
const CODES: Readonly<Record<PageResponseCode, number>> = {
  [PageResponseCode.SUCCESS]: 0,
  [PageResponseCode.INVALID]: 1,
  [PageResponseCode.FAILURE]: 15,
};
