// SPDX-License-Identifier: Apache-2.0
import type { Body } from '../../../sim/task.ts';
import { GroupResponse } from '../../ats_messages.ts';
import { modeOf } from '../../ats_port.ts';
import type { DmaAccess } from '../../translator.ts';
import { BUFFER_BYTES } from '../edu/registers.ts';
import { runEngine } from '../engine.ts';
import type { CachedDma } from './cached_dma.ts';
import { bad, faulted, type Job, type Outcome } from './job.ts';
import type { PageRequester } from './page_requester.ts';
import { Command, INTERRUPT, Mode, PageFlag, Register, State } from './registers.ts';
import type { TestDevice } from './test_device.ts';

/** An answered SUCCESS that changes nothing is followed by another request only so often. */
const MOST_RETRIES = 8;

/** A job with its command, as it goes on across steps and answers. */
interface Run {
  readonly job: Job;
  readonly command: number;
  /** The device was not reset since it began. */
  readonly isAlive: () => boolean;
  readonly retries: number;
}

/** The commands that run in a slot, each to its end, as tasks. */
export class Jobs {
  readonly #device: TestDevice;
  readonly #dma: CachedDma;
  readonly #requester: PageRequester;

  constructor(device: TestDevice, dma: CachedDma, requester: PageRequester) {
    this.#device = device;
    this.#dma = dma;
    this.#requester = requester;
  }

  start(job: Job, command: number): void {
    const { sim, registers, life } = this.#device;
    registers.begin(job.slot);
    const run = { job, command, isAlive: life.fromNow(), retries: 0 };
    runEngine(sim, this.#nameOf(job), this.#carryOut(run));
  }

  #nameOf({ slot }: Job): string {
    return `iommu_test ${this.#device.function.bdf} slot ${slot}`;
  }

  *#carryOut(run: Run): Body {
    const outcome = yield* this.#perform(run);
    if (run.isAlive() && outcome) this.#end(run.job.slot, outcome);
  }

  /** Undefined: it waits for an answer. */
  *#perform(run: Run): Body<Outcome | undefined> {
    const { job, command, isAlive } = run;
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
        return this.#requester.request(
          job,
          this.#ifAlive(run, (code) => this.#answered(job, code)),
        );
      case Command.STOP_MARKER:
        return this.#requester.stopMarker(job);
      case Command.FAULTING_READ:
        return fits ? yield* this.#faulting(run, 'read') : bad(at);
      case Command.FAULTING_WRITE:
        return fits ? yield* this.#faulting(run, 'write') : bad(at);
      default:
        return bad(at);
    }
  }

  #plain(access: DmaAccess, { address, length, offset, pasid }: Job): Outcome {
    const { edu, function: fn } = this.#device;
    const part = edu.dma.buffer.subarray(offset, offset + length);
    const fault = fn.dma[access](address, part, pasid?.value, pasid ? modeOf(pasid) : 0);
    return fault ? faulted(fault) : { state: State.DONE, at: address };
  }

  /** A cached DMA that asks for the pages it lacks, as one group as far as there is credit, and is tried again after SUCCESS. */
  *#faulting(run: Run, access: DmaAccess): Body<Outcome | undefined> {
    const { job, retries } = run;
    const pages = this.#dma.missing(job, access);
    if ('state' in pages) return pages;
    const [first] = pages;
    if (first === undefined) return yield* this.#dma.move(job, access, run.isAlive);
    if (retries >= MOST_RETRIES) return { state: State.NOT_PRESENT, at: first };
    if (this.#requester.isWaiting(job.group)) return bad(first);
    const { credit } = this.#requester;
    if (credit <= 0) return { state: State.NO_CREDIT, at: first };
    const asked = pages.slice(0, credit);
    const answered = this.#ifAlive(run, (code) => {
      if (code === GroupResponse.SUCCESS) this.#tryAgain(run);
      else this.#answered(job, code);
    });
    return this.#requester.requestPages(job, asked, access, answered);
  }

  /** Beside whoever answers: he is in the middle of something. */
  #tryAgain(run: Run): void {
    const { sim, registers } = this.#device;
    const { job, retries } = run;
    registers.set(job.slot, State.RUNNING, job.address);
    const again = this.#carryOut({ ...run, retries: retries + 1 });
    sim.spawn(`${this.#nameOf(job)} again`, again);
  }

  #ifAlive({ isAlive }: Run, then: (code: GroupResponse) => void): (code: GroupResponse) => void {
    return (code) => {
      if (isAlive()) then(code);
    };
  }

  #answered({ slot, address }: Job, code: GroupResponse): void {
    const states = {
      [GroupResponse.SUCCESS]: State.DONE,
      [GroupResponse.INVALID]: State.INVALID,
      [GroupResponse.FAILURE]: State.FAILURE,
    } as const;
    this.#end(slot, { state: states[code], at: address });
  }

  #end(slot: number, { state, at }: Outcome): void {
    const { registers, edu } = this.#device;
    registers.set(slot, state, at);
    registers.count(Register.ended);
    if (registers.get(Register.mode) & Mode.IRQ) edu.raise(INTERRUPT);
  }
}
