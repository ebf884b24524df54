// SPDX-License-Identifier: Apache-2.0
import { hi as hiOf, lo as loOf, toBigint } from '../../base/u64.ts';
import {
  GroupResponse,
  type GroupResponseMessage,
  isStopMarker,
  type PageRequestMessage,
} from '../../pci/ats_messages.ts';
import { type Body, until } from '../../sim/task.ts';
import { Access, NO_PASID } from './access.ts';
import type { Binding } from './binding.ts';
import type { Bindings } from './bindings.ts';
import type { Capabilities } from './capabilities.ts';
import { EventInterrupt, type FaultLog, type SendMessage } from './fault_log.ts';
import { Fault, isQualified } from './fault_reasons.ts';
import type { PhysicalMemory } from './physical_memory.ts';
import type { RegisterFile } from './register_file.ts';
import { Offset } from './registers.ts';

const BYTES = 32;
const POINTER = 0x7_ffe0;
const [PPR, PRO] = [1, 2];
const TYPE = 1;
/** Private data is there: in a request, in an answer. */
const [REQUEST_PDP, ANSWER_PDP] = [0x200, 0x20];
const HALF = 2n ** 64n;

/** Where answers to groups go: to the function with this requester id, if there is one. */
export type SendGroupResponse = (sid: number, message: GroupResponseMessage) => void;

/** What the queue of page requests works on. */
export interface PageRequestParts {
  readonly registers: RegisterFile;
  readonly memory: PhysicalMemory;
  readonly caps: Capabilities;
  readonly bindings: Bindings;
  readonly log: FaultLog;
  readonly send: SendMessage;
  /** Translation is on. */
  readonly isOn: () => boolean;
  /** The translations of a page go out of the caches: the function has found them wanting. */
  readonly forget: (binding: Binding, page: number) => void;
}

interface OnItsWay {
  readonly sid: number;
  readonly message: PageRequestMessage;
}

/**
 * The queue of page requests (PRI): what functions ask for is written into memory, one descriptor of 32 bytes each, by a task of its own;
 * software moves the head. Source: VTD-5.10 §7.4 to VTD-5.10 §7.6.
 */
export class PageRequestQueue {
  readonly event: EventInterrupt;
  /** Undefined: nobody is there to hear. */
  respond: SendGroupResponse | undefined = undefined;
  readonly #parts: PageRequestParts;
  readonly #incoming: OnItsWay[] = [];

  constructor(parts: PageRequestParts) {
    this.#parts = parts;
    this.event = new EventInterrupt(parts.registers, Offset.PECTL, parts.send);
  }

  /** Requests have come that are neither in memory nor answered. */
  get isOnTheWay(): boolean {
    return this.#incoming.length > 0;
  }

  /** From a function. A unit without page requests does not know the message: nobody answers. */
  receive(sid: number, message: PageRequestMessage): void {
    if (!this.#parts.caps.hasPageRequests) return;
    this.#incoming.push({ sid, message });
  }

  reset(): void {
    this.#incoming.length = 0;
  }

  *body(): Body {
    for (;;) {
      yield until('a page request', () => this.isOnTheWay);
      this.step();
      yield 'a page request was taken';
    }
  }

  /** Takes one request that is on its way: into memory, or to an answer. */
  step(): void {
    const next = this.#incoming.shift();
    if (next === undefined) return;
    const { sid, message } = next;
    const found = this.#admit(sid, message);
    const answer = typeof found === 'number' ? GroupResponse.INVALID : this.#write(message, found);
    if (answer === undefined || !message.last || isStopMarker(message)) return;
    const { group, pasid, privateData } = message;
    const data = this.#parts.caps.hasPrivateData ? privateData : undefined;
    this.#answer(sid, group, pasid?.value, answer, data);
  }

  /** Software wrote PRS: an event that is about nothing any more goes. */
  statusWritten(): void {
    if ((this.#parts.registers.get(Offset.PRS) & (PPR | PRO)) === 0) this.event.withdraw();
  }

  /** A page group response descriptor of 4 or 8 words. Codes that are none (2 to 14) count as failures. */
  carryOut(words: Uint32Array, count: number): void {
    const [w0 = 0, w1 = 0, w2 = 0] = words;
    const said = (w0 >>> 12) & 0xf;
    const code =
      said === GroupResponse.SUCCESS || said === GroupResponse.INVALID
        ? said
        : GroupResponse.FAILURE;
    const pasid = (w0 & 0x10) === 0 ? undefined : w1 & 0xf_ffff;
    const [, , , , d0 = 0, d1 = 0, d2 = 0, d3 = 0] = words;
    const hasData = (w0 & ANSWER_PDP) !== 0 && count === 8;
    const privateData = hasData ? toBigint(d0, d1) | (toBigint(d2, d3) << 64n) : undefined;
    this.#answer(w0 >>> 16, (w2 >>> 3) & 0x1ff, pasid, code, privateData);
  }

  #answer(
    sid: number,
    group: number,
    pasid: number | undefined,
    code: GroupResponse,
    privateData: bigint | undefined,
  ): void {
    const data = privateData === undefined ? {} : { privateData };
    this.respond?.(sid, { group, pasid, code, ...data });
  }

  /** The entry of a request's PASID, or the reason why the tables do not admit it, which is recorded. */
  #admit(sid: number, { pasid, address }: PageRequestMessage): Binding | number {
    const { bindings, isOn, log } = this.#parts;
    const value = pasid?.value ?? NO_PASID;
    const context = bindings.context(sid);
    const binding = bindings.find(sid, value);
    let { fault } = binding;
    if (!bindings.isScalable) fault = Fault.SM_PAGES_IN_LEGACY;
    else if (context.fault === 0 && !context.pages) fault = Fault.SM_PRE_CLEAR;
    if (!isOn()) return fault;
    if (fault === 0) return binding;
    if (!(binding.fpd && isQualified(fault))) {
      const access =
        Access.PAGE_REQUEST |
        (pasid?.execute ? Access.EXECUTE : 0) |
        (pasid?.privileged ? Access.PRIVILEGED : 0);
      log.record(sid, value, loOf(address), hiOf(address), access, fault);
    }
    return fault;
  }

  /** Undefined: it is in the queue. Else the answer to what is lost: that the function tries again. */
  #write(message: PageRequestMessage, binding: Binding): GroupResponse | undefined {
    const { registers, memory, forget, caps } = this.#parts;
    const status = registers.get(Offset.PRS);
    if ((status & PRO) !== 0) return GroupResponse.SUCCESS;
    const base = registers.get(Offset.PQA);
    const size = 2 ** ((base & 7) + 12);
    const tail = (registers.get(Offset.PQT) & POINTER) % size;
    const next = (tail + BYTES) % size;
    const isFull = next === (registers.get(Offset.PQH) & POINTER) % size;
    const page = registers.get(Offset.PQA + 4) * 2 ** 20 + (base >>> 12) + (tail >>> 12);
    const descriptor = descriptorOf(binding.sid, message, caps.hasPrivateData);
    if (isFull || !memory.writeBytes(page, tail & 0xfff, descriptor)) {
      this.#raise(status, PRO);
      return GroupResponse.SUCCESS;
    }
    const { address } = message;
    forget(binding, hiOf(address) * 2 ** 20 + (loOf(address) >>> 12));
    registers.set(Offset.PQT, next);
    this.#raise(status, PPR);
    return undefined;
  }

  /** Sets a bit of PRS: an event only where none was set. */
  #raise(status: number, bit: number): void {
    this.#parts.registers.set(Offset.PRS, status | bit);
    if ((status & (PPR | PRO)) === 0) this.event.raise();
  }
}

function descriptorOf(sid: number, message: PageRequestMessage, takesData: boolean): Uint8Array {
  const { pasid, address, read, write, last, group } = message;
  const words = new Uint32Array(BYTES / 4);
  words[0] = (sid << 16) | (pasid ? 0x100 : 0) | TYPE;
  words[1] =
    (pasid?.value ?? 0) | (pasid?.execute ? 1 << 20 : 0) | (pasid?.privileged ? 1 << 21 : 0);
  words[2] =
    (loOf(address) & 0xffff_f000) |
    (group << 3) |
    (last ? 4 : 0) |
    (write ? 2 : 0) |
    (read ? 1 : 0);
  words[3] = hiOf(address);
  if (takesData && message.privateData !== undefined) {
    const [low, high] = [message.privateData % HALF, message.privateData / HALF];
    words[0] |= REQUEST_PDP;
    words.set([loOf(low), hiOf(low), loOf(high), hiOf(high)], 4);
  }
  return new Uint8Array(words.buffer);
}
