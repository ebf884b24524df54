// SPDX-License-Identifier: Apache-2.0
import type {
  GroupResponse,
  GroupResponseMessage,
  PageRequestMessage,
} from '../../ats_messages.ts';
import type { DmaAccess } from '../../translator.ts';
import { bad, type Job, type Outcome, pageOf, refused } from './job.ts';
import { PageFlag, State } from './registers.ts';
import type { TestDevice } from './test_device.ts';

/** What goes on with the answer to a group. */
type Answered = (code: GroupResponse) => void;

/** The page requests of the device, in groups, and what waits for the answers. */
export class PageRequester {
  readonly #device: TestDevice;
  /** By the group. */
  readonly #waiting = new Map<number, Answered>();

  constructor(device: TestDevice) {
    this.#device = device;
  }

  /** Something waits for the group's answer already. */
  isWaiting(group: number): boolean {
    return this.#waiting.has(group);
  }

  /** How many more may be sent now; 1 where it is not credit that they lack. */
  get credit(): number {
    const pri = this.#device.function.pageRequests;
    return pri?.enabled ? pri.allocation - pri.outstanding : 1;
  }

  /** The request that a job describes. Undefined: it was the last of its group, and its answer goes to `answered`. */
  request(job: Job, answered: Answered): Outcome | undefined {
    const { address, group, pageFlags, pasid, privateData } = job;
    if (this.isWaiting(group)) return bad(address);
    const last = (pageFlags & PageFlag.LAST) !== 0;
    // Before it is sent: the answer can come before this returns.
    if (last) this.#wait(job, answered);
    const outcome = this.#send(address, {
      ...{ pasid, group, last, privateData: last ? privateData : undefined },
      address: pageOf(address),
      read: (pageFlags & PageFlag.READ) !== 0,
      write: (pageFlags & PageFlag.WRITE) !== 0,
    });
    return outcome ?? (last ? undefined : { state: State.DONE, at: address });
  }

  /** Requests for pages that a job needs, as one group. Undefined: the answer goes to `answered`. */
  requestPages(
    job: Job,
    pages: readonly bigint[],
    access: DmaAccess,
    answered: Answered,
  ): Outcome | undefined {
    const { pasid, group, privateData } = job;
    this.#wait(job, answered);
    for (const [i, address] of pages.entries()) {
      const last = i === pages.length - 1;
      const outcome = this.#send(address, {
        ...{ address, pasid, group, last, privateData: last ? privateData : undefined },
        ...{ read: access === 'read', write: access === 'write' },
      });
      if (outcome) return outcome;
    }
    return undefined;
  }

  stopMarker({ pasid, group, address }: Job): Outcome {
    if (!pasid) return bad(address);
    const marker = { pasid, group, address: 0n, read: false, write: false, last: true };
    const refusal = this.#device.function.atsPort.pageRequest(marker);
    return refusal ? refused(refusal, address) : { state: State.DONE, at: address };
  }

  respond(message: GroupResponseMessage): void {
    const { group, code } = message;
    this.#device.registers.responded(message);
    const waiting = this.#waiting.get(group);
    this.#waiting.delete(group);
    waiting?.(code);
  }

  /** The interface forgot what was asked: no answers will come. */
  abandon(): void {
    this.#waiting.clear();
    this.#device.registers.abandonWaiting();
  }

  reset(): void {
    this.#waiting.clear();
  }

  #wait({ slot, group }: Job, answered: Answered): void {
    this.#device.registers.set(slot, State.WAITING, 0n);
    this.#waiting.set(group, answered);
  }

  /** Why it did not leave, and nobody waits for its group any more. */
  #send(at: bigint, message: PageRequestMessage): Outcome | undefined {
    const refusal = this.#device.function.atsPort.pageRequest(message);
    if (!refusal) return undefined;
    this.#waiting.delete(message.group);
    return refused(refusal, at);
  }
}
