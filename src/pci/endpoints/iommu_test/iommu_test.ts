// SPDX-License-Identifier: Apache-2.0
import type { DeviceOptions } from '../../../iommu/device.ts';
import type { Sim } from '../../../sim/sim.ts';
import { type Body, until } from '../../../sim/task.ts';
import type { PciAddress } from '../../address.ts';
import { AddressTranslationCache } from '../../atc.ts';
import {
  GroupResponse,
  type GroupResponseMessage,
  type InvalidateRequest,
} from '../../ats_messages.ts';
import { AtsRefusal } from '../../ats_port.ts';
import { modeOf } from '../../ats_port.ts';
import { type DmaFault, type DmaPath, DmaCause } from '../../dma.ts';
import type { FunctionOptions, PciFunction } from '../../function.ts';
import type { PasidOptions } from '../../pasid.ts';
import type { DmaAccess } from '../../translator.ts';
import { BUFFER_BYTES } from '../edu/registers.ts';
import { Edu } from '../edu/edu.ts';
import { runEngine } from '../engine.ts';
import { CachedDma, type Job, type Outcome, pageOf } from './cached_dma.ts';
import { IommuTestRegisters } from './register_file.ts';
import {
  Command,
  Feature,
  INTERRUPT,
  IOMMU_TEST_IDENTITY,
  Mode,
  PageFlag,
  Register,
  REGISTERS_BYTES,
  REGISTERS_START,
  State,
  VF_DEVICE_ID,
} from './registers.ts';

export interface IommuTestOptions {
  readonly address: PciAddress;
  /** Bits of DMA addresses of edu's registers, as `edu` has them. */
  readonly dmaBits?: number;
  /** It has ATS. Default true. */
  readonly ats?: boolean;
  /** Page requests outstanding at most; 0: it has no PRI. 32 unless told. Of no meaning for a virtual function. */
  readonly pageRequests?: number;
  /** Bits of a PASID; 0: it has none. 20 unless told. Of no meaning for a virtual function. */
  readonly pasidBits?: number;
  /** With PASIDs it can ask to execute, and as privileged. Default true. */
  readonly execute?: boolean;
  /** Virtual functions that it can have, 0 to 7; 0 unless told. */
  readonly totalVfs?: number;
  /** Access Control Services: bits of `Acs`; absent: it has none. */
  readonly acs?: number;
  readonly multifunction?: boolean;
  /** It is a virtual function of this one. */
  readonly physical?: IommuTest;
  readonly device?: DeviceOptions;
}

/** An answered SUCCESS that changes nothing is followed by another request only so often. */
const MOST_RETRIES = 8;

/** A function that does on command all that a PCI function can do to an IOMMU; README.md says how. It is an edu besides. */
export class IommuTest {
  readonly edu: Edu;
  readonly function: PciFunction;
  readonly atc = new AddressTranslationCache();
  readonly registers: IommuTestRegisters;
  readonly #sim: Sim;
  readonly #dma: CachedDma;
  /** What waits for the answer to its group, by the group. */
  readonly #waiting = new Map<number, (code: GroupResponse) => void>();
  /** Invalidations done whose completion waits for RELEASE. */
  #held: number[] = [];
  /** Counts resets: what was under way before one has no effect after it. */
  #life = 0;

  constructor(sim: Sim, path: DmaPath, options: IommuTestOptions) {
    this.#sim = sim;
    this.#dma = new CachedDma(this.atc, {
      fn: () => this.function,
      buffer: () => this.edu.dma.buffer,
    });
    this.registers = new IommuTestRegisters({
      features: () => this.#features(),
      refresh: () => this.#refresh(),
      command: (value) => this.#command(value),
    });
    const { address, dmaBits, physical, device } = options;
    const pasidBits = physical ? physical.function.pasid?.width : (options.pasidBits ?? 20);
    const execute = physical ? physical.function.pasid?.execute : (options.execute ?? true);
    const modes = { pasidExecute: execute ?? false, pasidPrivileged: execute ?? false };
    this.edu = new Edu(sim, path, {
      address,
      ...(dmaBits !== undefined && { dmaBits }),
      device: { ...device, ...(pasidBits ? { pasidBits, ...modes } : {}) },
      extension: {
        identity: physical
          ? { ...IOMMU_TEST_IDENTITY, deviceId: VF_DEVICE_ID }
          : IOMMU_TEST_IDENTITY,
        function: this.#functionOptions(options),
        registers: this.registers,
        start: REGISTERS_START,
        bytes: REGISTERS_BYTES,
        onReset: () => this.#reset(),
      },
    });
    this.function = this.edu.function;
  }

  #functionOptions(options: IommuTestOptions): Partial<FunctionOptions> {
    const { ats = true, pageRequests = 32, pasidBits = 20, physical } = options;
    const { execute = true, totalVfs = 0, acs, multifunction = false } = options;
    const pasid: PasidOptions = { width: pasidBits, execute, privileged: execute };
    return {
      multifunction,
      ...(acs !== undefined && { acs }),
      ...(ats && {
        ats: {
          onInvalidate: (request) => this.#invalidate(request),
          onDisable: () => this.#forgetAll(),
        },
      }),
      ...(!physical && pageRequests > 0 && { pri: { capacity: pageRequests } }),
      ...(!physical && pasidBits > 0 && { pasid }),
      ...(!physical && totalVfs > 0 && { sriov: { totalVfs, deviceId: VF_DEVICE_ID } }),
      ...(physical && { physicalFunction: physical.function }),
      onGroupResponse: (message) => this.#respond(message),
      onPageRequestsForgotten: () => this.#abandon(),
    };
  }

  #features(): number {
    const { ats, pageRequests, pasids, physicalFunction } = this.function;
    return (
      (ats ? Feature.ATS : 0) |
      (pageRequests ? Feature.PRI : 0) |
      (pasids ? Feature.PASID : 0) |
      (pasids?.execute ? Feature.EXECUTE : 0) |
      (pasids?.privileged ? Feature.PRIVILEGED : 0) |
      (physicalFunction ? Feature.VIRTUAL : 0)
    );
  }

  /** Before software reads: what is under way goes on while software waits. A task is not the one to let others run. */
  #refresh(): void {
    if (!this.#isTask()) this.#sim.settle();
    const { registers } = this;
    registers.show(Register.outstanding, this.function.pageRequests?.outstanding ?? 0);
    registers.show(Register.cached, this.atc.size);
    registers.show(Register.held, this.#held.length);
    registers.show64(Register.entryLow, this.#dma.lastEntry);
  }

  #isTask(): boolean {
    return this.#sim.tasks.some((task) => task === this.#sim.current);
  }

  #command(value: number): void {
    const { registers } = this;
    switch (value) {
      case Command.RELEASE:
        return this.#release();
      case Command.COMPLETE:
        return this.#complete(registers.get(Register.argument));
      case Command.FORGET:
        return this.atc.clear();
    }
    const slot = registers.get(Register.slot);
    // What runs in the slot goes on.
    if (registers.isBusy(slot)) return;
    const job = registers.job();
    registers.begin(slot);
    runEngine(
      this.#sim,
      `iommu_test ${this.function.bdf} slot ${slot}`,
      this.#run(job, value, this.#life),
    );
  }

  *#run(job: Job, command: number, life: number, retries = 0): Body {
    const outcome = yield* this.#perform(job, command, life, retries);
    if (life !== this.#life || !outcome) return;
    this.#end(job.slot, outcome);
  }

  /** Undefined: it waits for an answer. */
  *#perform(job: Job, command: number, life: number, retries: number): Body<Outcome | undefined> {
    const isAlive = (): boolean => life === this.#life;
    const at = job.address;
    const hasBytes = job.length > 0 && job.offset + job.length <= BUFFER_BYTES;
    const fits = hasBytes && at + BigInt(job.length) <= 2n ** 64n;
    yield 'command';
    if (!isAlive()) return undefined;
    switch (command) {
      case Command.READ:
        return fits ? this.#plain('read', job) : bad(at);
      case Command.WRITE:
        return fits ? this.#plain('write', job) : bad(at);
      case Command.CACHED_READ:
        return fits ? yield* this.#dma.move(job, 'read', isAlive) : bad(at);
      case Command.CACHED_WRITE:
        return fits ? yield* this.#dma.move(job, 'write', isAlive) : bad(at);
      case Command.TRANSLATE:
        return this.#dma.ask(at, job.pageFlags & PageFlag.WRITE ? 'write' : 'read', job.pasid);
      case Command.PAGE_REQUEST:
        return this.#requestPage(job, life);
      case Command.STOP_MARKER:
        return this.#stopMarker(job);
      case Command.FAULTING_READ:
        return fits ? yield* this.#faulting(job, command, life, retries) : bad(at);
      case Command.FAULTING_WRITE:
        return fits ? yield* this.#faulting(job, command, life, retries) : bad(at);
      default:
        return bad(at);
    }
  }

  #plain(access: DmaAccess, { address, length, offset, pasid }: Job): Outcome {
    const part = this.edu.dma.buffer.subarray(offset, offset + length);
    const mode = pasid ? modeOf(pasid) : 0;
    const fault = this.function.dma[access](address, part, pasid?.value, mode);
    return fault ? { state: stateOf(fault), at: fault.at } : { state: State.DONE, at: address };
  }

  #requestPage(job: Job, life: number): Outcome | undefined {
    const { address, group, pageFlags, pasid, slot, privateData } = job;
    if (this.#waiting.has(group)) return bad(address);
    const last = (pageFlags & PageFlag.LAST) !== 0;
    // Before it is sent: the answer can come before this returns.
    if (last) this.#wait(slot, group, life, (code) => this.#answered(job, code));
    const refusal = this.function.atsPort.pageRequest({
      ...{ pasid, group, last, privateData: last ? privateData : undefined },
      address: pageOf(address),
      read: (pageFlags & PageFlag.READ) !== 0,
      write: (pageFlags & PageFlag.WRITE) !== 0,
    });
    if (refusal) this.#waiting.delete(group);
    if (refusal) return { state: refusalState(refusal), at: address };
    return last ? undefined : { state: State.DONE, at: address };
  }

  #stopMarker({ pasid, group, address }: Job): Outcome {
    if (!pasid) return bad(address);
    const marker = { pasid, group, address: 0n, read: false, write: false, last: true };
    const refusal = this.function.atsPort.pageRequest(marker);
    return { state: refusal ? refusalState(refusal) : State.DONE, at: address };
  }

  /** A cached DMA that asks for the pages it lacks, as one group as far as there is credit, and is tried again after SUCCESS. */
  *#faulting(job: Job, command: number, life: number, retries: number): Body<Outcome | undefined> {
    const access = command === Command.FAULTING_READ ? 'read' : 'write';
    const pages = this.#dma.missing(job, access);
    if ('state' in pages) return pages;
    const [first] = pages;
    if (first === undefined) return yield* this.#dma.move(job, access, () => life === this.#life);
    if (retries >= MOST_RETRIES) return { state: State.NOT_PRESENT, at: first };
    if (this.#waiting.has(job.group)) return bad(first);
    const pri = this.function.pageRequests;
    const credit = pri ? pri.allocation - pri.outstanding : 0;
    if (pri?.enabled && credit <= 0) return { state: State.NO_CREDIT, at: first };
    const asked = pages.slice(0, Math.max(credit, 1));
    this.#wait(job.slot, job.group, life, (code) => {
      if (code !== GroupResponse.SUCCESS) return this.#answered(job, code);
      this.registers.set(job.slot, State.RUNNING, job.address);
      // Beside whoever answers: he is in the middle of something.
      const name = `iommu_test ${this.function.bdf} slot ${job.slot} again`;
      this.#sim.spawn(name, this.#run(job, command, life, retries + 1));
    });
    for (const [i, address] of asked.entries()) {
      const last = i === asked.length - 1;
      const refusal = this.function.atsPort.pageRequest({
        ...{ address, pasid: job.pasid, group: job.group, last },
        ...{ read: access === 'read', write: access === 'write' },
        privateData: last ? job.privateData : undefined,
      });
      if (!refusal) continue;
      this.#waiting.delete(job.group);
      return { state: refusalState(refusal), at: address };
    }
    return undefined;
  }

  #wait(slot: number, group: number, life: number, then: (code: GroupResponse) => void): void {
    this.registers.set(slot, State.WAITING, 0n);
    this.#waiting.set(group, (code) => {
      if (life === this.#life) then(code);
    });
  }

  #answered({ slot, address }: Job, code: GroupResponse): void {
    const states = {
      [GroupResponse.SUCCESS]: State.DONE,
      [GroupResponse.INVALID]: State.INVALID,
      [GroupResponse.FAILURE]: State.FAILURE,
    } as const;
    this.#end(slot, { state: states[code], at: address });
  }

  #respond(message: GroupResponseMessage): void {
    const { group, code } = message;
    this.registers.responded(message);
    const waiting = this.#waiting.get(group);
    this.#waiting.delete(group);
    waiting?.(code);
  }

  /** The interface forgot what was asked: no answers will come. */
  #abandon(): void {
    this.#waiting.clear();
    this.registers.abandonWaiting();
  }

  #end(slot: number, { state, at }: Outcome): void {
    this.registers.set(slot, state, at);
    this.registers.count(Register.ended);
    if (this.registers.get(Register.mode) & Mode.IRQ) this.edu.raise(INTERRUPT);
  }

  #invalidate(request: InvalidateRequest): void {
    runEngine(
      this.#sim,
      `iommu_test ${this.function.bdf} invalidation`,
      this.#invalidating(request, this.#life),
    );
  }

  /** Forgets, waits for what is in use, completes: after that no DMA goes by what is forgotten. */
  *#invalidating(request: InvalidateRequest, life: number): Body {
    this.registers.count(Register.invalidations);
    const mode = this.registers.get(Register.mode);
    const gone = mode & Mode.STALE ? [] : this.atc.invalidate(request);
    yield 'forgotten';
    yield until('DMA by forgotten translations', () => gone.every(({ uses }) => uses === 0));
    if (life !== this.#life || mode & Mode.DROP) return;
    if (mode & Mode.HOLD) this.#held.push(request.itag);
    else this.#complete((1 << request.itag) >>> 0);
  }

  #release(): void {
    const held = this.#held;
    this.#held = [];
    for (const itag of held) this.#complete((1 << itag) >>> 0);
  }

  #complete(itags: number): void {
    const count = ((this.registers.get(Register.mode) >>> Mode.COUNT_SHIFT) & 7) + 1;
    for (let i = 0; i < count; i++) this.function.atsPort.completeInvalidation({ itags, count });
  }

  #forgetAll(): void {
    this.atc.clear();
    this.#held = [];
  }

  #reset(): void {
    this.#life++;
    this.#waiting.clear();
    this.#forgetAll();
    this.#dma.lastEntry = 0n;
    this.registers.reset();
  }
}

const bad = (at: bigint): Outcome => ({ state: State.BAD, at });

const stateOf = ({ cause }: DmaFault): State =>
  cause === DmaCause.BUS_MASTER_OFF || cause === DmaCause.PASID_OFF ? State.OFF : State.REFUSED;

function refusalState(refusal: AtsRefusal): State {
  if (refusal === AtsRefusal.NO_CREDIT) return State.NO_CREDIT;
  if (refusal === AtsRefusal.FAILED) return State.FAILURE;
  return refusal === AtsRefusal.BAD_MESSAGE ? State.BAD : State.OFF;
}
