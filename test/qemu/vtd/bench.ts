// SPDX-License-Identifier: Apache-2.0
import { TEST_PATTERN } from '../../../host/qemu/test_device.ts';
import { Batch } from '../../../src/drivers/intel/batch.ts';
import { type DeviceFault, IntelIommu } from '../../../src/drivers/intel/intel_iommu.ts';
import type { Unit } from '../../../src/drivers/intel/unit.ts';
import { allocUserDomain } from '../../../src/iommu/alloc.ts';
import { attach, detach, replace } from '../../../src/iommu/attach.ts';
import { IommuCore } from '../../../src/iommu/core.ts';
import { Device, NO_PASID } from '../../../src/iommu/device.ts';
import { type Domain, isPagingDomain, type PagingDomain, Prot } from '../../../src/iommu/domain.ts';
import { AttachHandle } from '../../../src/iommu/handle.ts';
import { claimDmaOwner } from '../../../src/iommu/ownership.ts';
import type { Hardware } from '../../../src/kernel/hardware.ts';
import { FRAME_SIZE } from '../../../src/memory/frame.ts';
import { FRAME_LANES } from '../../../src/memory/ram.ts';
import { Faults } from '../../../src/sim/faults.ts';
import { Sim } from '../../../src/sim/sim.ts';
import type { Requester, TestMachine } from './machine.ts';
import { Tables } from './tables.ts';

export const READ_WRITE = Prot.READ | Prot.WRITE;
const PATTERN = new DataView(TEST_PATTERN.buffer).getUint32(0, true);
const [FSTS, IQH, IQT] = [0x34, 0x80, 0x88];

export const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

/** A device and the driver's part of it. */
export interface Behind {
  readonly requester: Requester;
  readonly device: Device;
}

/**
 * A machine with the driver on it, and what happens there in words: the canonical trace. It has nothing in it that depends on how the
 * machine is made.
 */
export class Bench {
  readonly lines: string[] = [];
  /** What a scenario is there to show, and did not. */
  readonly missed: string[] = [];
  readonly hardware: Hardware;
  readonly tables: Tables;
  readonly driver: IntelIommu;
  readonly unit: Unit;
  readonly edu: Behind;
  readonly test: Behind;
  readonly faults = new Faults();
  readonly #settle: () => void;
  /** Pages for data: each word of one is its number, so that a word tells where it is from. */
  readonly #pages: number[] = [];
  /** Through which `edu` brings words; mapped at its own physical address wherever it is. */
  readonly #bounce: number;
  readonly #domains: PagingDomain[] = [];
  readonly #attached = new Map<Behind, Domain>();
  readonly #events: DeviceFault[] = [];
  #overflows = 0;

  constructor(machine: TestMachine) {
    const sim = new Sim({ faults: this.faults, checkLocks: true });
    const { hardware, edu, test, settle } = machine.powerOn(sim, this.faults);
    this.hardware = hardware;
    this.#settle = settle;
    this.tables = new Tables(hardware);
    this.driver = new IntelIommu(new IommuCore({ sim }));
    this.driver.onFault = (fault) => this.#events.push(fault);
    this.driver.onFaultOverflow = () => this.#overflows++;
    const unit = this.driver.addUnit('dmar0', hardware);
    if (typeof unit === 'number') throw new Error(`the unit does not start: ${unit}`);
    this.unit = unit;
    this.edu = this.#add(edu);
    this.test = this.#add(test);
    this.#bounce = this.#alloc(1);
  }

  say(line: string): void {
    this.lines.push(line);
  }

  /** A line for what the scenario is there to show. */
  shows(what: string, isSo: boolean): void {
    if (!isSo) this.missed.push(what);
    this.say(`${isSo ? 'so it is' : 'NOT SO'}: ${what}`);
  }

  /** The first frame of a new page for data; `lg2` for 2^lg2 pages on end, aligned to their length. */
  page(lg2 = 0): number {
    const first = this.#alloc(lg2 + 1);
    for (let frame = first; frame < first + 2 ** (lg2 + 1); frame += 2) this.#sign(frame);
    return first;
  }

  /** An empty domain; `edu` can bring words through it. */
  paging(flags = 0): PagingDomain {
    const domain = allocUserDomain(this.edu.device, { flags });
    if (typeof domain === 'number') throw new Error(`there is no domain: ${domain}`);
    if (!isPagingDomain(domain)) throw new Error('this is no paging domain');
    const rc = domain.map(BigInt(this.#bounce * FRAME_SIZE), this.#bounce, 2, READ_WRITE);
    if (rc !== 0) throw new Error(`the page for edu is not mapped: ${rc}`);
    this.#domains.push(domain);
    return domain;
  }

  identity(): Domain {
    const { identityDomain } = this.driver.ops;
    if (!identityDomain) throw new Error('the driver has no identity domain');
    return identityDomain;
  }

  /** `undefined` blocks the device. */
  attach(behind: Behind, domain: Domain | undefined): void {
    const { device, requester } = behind;
    const before = this.#attached.get(behind);
    let rc = 0;
    if (!domain) {
      if (before) detach(device, NO_PASID, before);
    } else if (before) {
      rc = replace(device, NO_PASID, domain, new AttachHandle());
    } else {
      rc = attach(device, NO_PASID, domain, new AttachHandle());
    }
    if (rc === 0) {
      if (domain) this.#attached.set(behind, domain);
      else this.#attached.delete(behind);
    }
    this.say(`${requester.name}: attach to ${this.#nameOf(domain)} = ${rc}`);
  }

  map(domain: PagingDomain, iova: bigint, frame: number, frames: number, prot = READ_WRITE): void {
    const rc = domain.map(iova, frame, frames, prot);
    this.say(`map ${this.#nameOf(domain)} ${hex(iova)} +${frames} frames, prot ${prot} = ${rc}`);
  }

  unmap(domain: PagingDomain, iova: bigint, frames: number): void {
    const got = domain.unmap(iova, frames);
    this.say(`unmap ${this.#nameOf(domain)} ${hex(iova)} +${frames} frames = ${got}`);
  }

  /** Writes four bytes, and looks where they are. Undefined where it was refused, and -1 where they are in no page for data. */
  store(behind: Behind, iova: bigint): number | undefined {
    const { requester } = behind;
    if (requester.name === 'edu') this.#fetch(PATTERN);
    const isDone = requester.store(iova, 4);
    const page = isDone ? this.#takePattern(Number(iova & 0xfffn)) : undefined;
    this.#sayDma(behind, 'store', iova, isDone, page);
    return page;
  }

  /** Reads four bytes, and looks whose they are; results as of `store`. */
  load(iova: bigint): number | undefined {
    const { requester } = this.edu;
    const isDone = requester.load(iova, 4);
    let page: number | undefined;
    if (isDone) {
      const signature = this.#bringBack();
      page = this.#pages.find((frame) => signatureOf(frame) === signature) ?? -1;
    }
    this.#sayDma(this.edu, 'load', iova, isDone, page);
    return page;
  }

  /** One load without a look at what came: where `edu` reaches nothing else. */
  probe(iova: bigint): boolean {
    const isDone = this.edu.requester.load(iova, 4);
    this.#sayDma(this.edu, 'load', iova, isDone, undefined);
    return isDone;
  }

  /** Has the hardware forget something, by descriptors, one submission each. */
  invalidate(...fills: ((at: Uint32Array) => void)[]): number {
    let rc = 0;
    for (const fill of fills) {
      const batch = new Batch();
      fill(batch.next());
      rc ||= this.unit.queue.submit(batch);
    }
    this.#settle();
    return rc;
  }

  /** Where the queue is, and what FSTS says. */
  sayRegisters(): void {
    const { mmio } = this.hardware;
    const [head, tail] = [mmio.read64(IQH), mmio.read64(IQT)];
    this.say(`queue head ${hex(head)}, tail ${hex(tail)}; FSTS ${hex(mmio.read32(FSTS))}`);
  }

  /** What pages hold a translation's target: the place among the pages for data. */
  nameOfPage(frame: number | undefined): string {
    if (frame === undefined) return 'refused';
    return frame < 0 ? 'somewhere else' : `page ${this.#pages.indexOf(frame)}`;
  }

  takeFaults(): string[] {
    this.#settle();
    const faults = this.#events.splice(0).map(faultInWords);
    if (this.#overflows > 0) faults.push('some were lost');
    this.#overflows = 0;
    return faults;
  }

  stop(): void {
    for (const [behind] of [...this.#attached]) this.attach(behind, undefined);
    for (const domain of this.#domains.splice(0)) domain.free();
  }

  #add(requester: Requester): Behind {
    const { name, sourceId } = requester;
    const device = new Device(name);
    const rc = this.driver.addDevice(device, this.unit, { sourceId });
    if (rc !== 0) throw new Error(`${name} is refused: ${rc}`);
    claimDmaOwner(device, this);
    return { requester, device };
  }

  #nameOf(domain: Domain | undefined): string {
    if (!domain) return 'nothing';
    const index = this.#domains.findIndex((known) => known === domain);
    return index < 0 ? 'identity' : `domain ${index}`;
  }

  #alloc(lg2: number): number {
    const frame = this.hardware.mem.ram.alloc(lg2);
    if (frame < 0) throw new Error('no memory is left for data');
    return frame;
  }

  #sign(frame: number): void {
    this.#pages.push(frame);
    const { ram } = this.hardware.mem;
    const lane = ram.laneOf(frame);
    ram.lanesOf(frame).fill(signatureOf(frame), lane, lane + 2 * FRAME_LANES);
  }

  /** Finds the page that was written to, and makes it as it was. */
  #takePattern(offset: number): number {
    for (const frame of this.#pages) {
      const [lanes, lane] = this.#word(frame, offset);
      if (lanes[lane] !== PATTERN) continue;
      lanes[lane] = signatureOf(frame);
      return frame;
    }
    return -1;
  }

  #word(frame: number, offset: number): [lanes: Uint32Array, lane: number] {
    const { ram } = this.hardware.mem;
    return [ram.lanesOf(frame), ram.laneOf(frame) + offset / 4];
  }

  /** Has `edu` fetch a word. */
  #fetch(word: number): void {
    const [lanes, lane] = this.#word(this.#bounce, 0);
    lanes[lane] = word;
    if (!this.edu.requester.load(this.#bounceIova, 4)) throw new Error('edu cannot fetch a word');
    lanes[lane] = 0;
  }

  #bringBack(): number {
    const [lanes, lane] = this.#word(this.#bounce, 0);
    if (!this.edu.requester.store(this.#bounceIova, 4)) {
      throw new Error('edu cannot bring back a word');
    }
    const word = lanes[lane] ?? 0;
    lanes[lane] = 0;
    return word;
  }

  get #bounceIova(): bigint {
    return BigInt(this.#bounce * FRAME_SIZE);
  }

  #sayDma(
    { requester }: Behind,
    what: string,
    iova: bigint,
    isDone: boolean,
    page: number | undefined,
  ): void {
    const faults = this.takeFaults();
    let how = isDone ? 'done' : 'refused';
    if (isDone && page !== undefined) how = `done, ${this.nameOfPage(page)}`;
    const tail = faults.length > 0 ? `; ${faults.join('; ')}` : '';
    this.say(`${requester.name}: ${what} ${hex(iova)}: ${how}${tail}`);
  }
}

const signatureOf = (frame: number): number => (0x5000_0000 | (frame / 2)) >>> 0;

const faultInWords = (fault: DeviceFault): string =>
  `fault {reason ${hex(fault.reason)}, source ${hex(fault.sourceId)}, pasid ${fault.pasid ?? 'none'}, ${fault.access}, address ${hex(fault.address)}}`;
