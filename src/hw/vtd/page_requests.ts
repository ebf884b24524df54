// SPDX-License-Identifier: Apache-2.0
import { lo as loOf, hi as hiOf } from '../../base/u64.ts';
import {
  GroupResponse,
  type GroupResponseMessage,
  isStopMarker,
  type PageRequestMessage,
} from '../../pci/ats_messages.ts';
import { type Body, until } from '../../sim/task.ts';
import { Access, NO_PASID } from './access.ts';
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
  readonly forget: (sid: number, pasid: number, page: number) => void;
}

interface OnItsWay {
  readonly sid: number;
  readonly message: PageRequestMessage;
}

/**
 * The queue of page requests (PRI): what functions ask for is written into memory, one descriptor of 32 bytes each, by a task of its own;
 * software moves the head. Layout of descriptors: Linux drivers/iommu/intel/prq.c, QEMU hw/i386/intel_iommu_internal.h (VTD_PRD_*).
 */
export class PageRequestQueue {
  readonly event: EventInterrupt;
  /** Undefined: nobody is there to hear. */
  respond: SendGroupResponse | undefined = undefined;
  /** Requests that came, and those that are in memory or were answered: what lies between is on its way. */
  received = 0;
  written = 0;
  readonly #parts: PageRequestParts;
  readonly #incoming: OnItsWay[] = [];

  constructor(parts: PageRequestParts) {
    this.#parts = parts;
    this.event = new EventInterrupt(parts.registers, Offset.PECTL, parts.send);
  }

  /** From a function. A unit without page requests does not know the message: nobody answers. */
  receive(sid: number, message: PageRequestMessage): void {
    if (!this.#parts.caps.hasPageRequests) return;
    this.#incoming.push({ sid, message });
    this.received++;
  }

  reset(): void {
    this.#incoming.length = 0;
    this.written = this.received;
  }

  *body(): Body {
    for (;;) {
      yield until('a page request', () => this.#incoming.length > 0);
      this.step();
      yield 'a page request was taken';
    }
  }

  /** Takes one request that is on its way: into memory, or to an answer. */
  step(): void {
    const next = this.#incoming.shift();
    if (next === undefined) return;
    this.written++;
    const { sid, message } = next;
    const answer = this.#refusal(sid, message) ?? this.#write(sid, message);
    if (answer === undefined || !message.last || isStopMarker(message)) return;
    this.respond?.(sid, { group: message.group, pasid: message.pasid?.value, code: answer });
  }

  /** Software wrote PRS: an event that is about nothing any more goes. */
  statusWritten(): void {
    if ((this.#parts.registers.get(Offset.PRS) & (PPR | PRO)) === 0) this.event.withdraw();
  }

  /** A page group response descriptor. Codes that are none count as failures. */
  carryOut(words: Uint32Array): void {
    const [w0 = 0, w1 = 0, w2 = 0] = words;
    const said = (w0 >>> 12) & 0xf;
    const code =
      said === GroupResponse.SUCCESS || said === GroupResponse.INVALID
        ? said
        : GroupResponse.FAILURE;
    const pasid = (w0 & 0x10) === 0 ? undefined : w1 & 0xf_ffff;
    this.respond?.(w0 >>> 16, { group: (w2 >>> 3) & 0x1ff, pasid, code });
  }

  /** The answer to a request that the tables do not admit, which is recorded; undefined: they do. */
  #refusal(sid: number, message: PageRequestMessage): GroupResponse | undefined {
    const { bindings, caps, isOn, log } = this.#parts;
    if (!isOn()) return GroupResponse.FAILURE;
    const context = bindings.context(sid);
    const { pasid } = message;
    let reason = context.fault;
    let answer: GroupResponse = GroupResponse.FAILURE;
    if (!bindings.isScalable) reason = Fault.SM_PAGES_IN_LEGACY;
    else if (reason === 0 && !context.pages) reason = Fault.SM_PRE_CLEAR;
    else if (reason === 0 && pasid) {
      answer = GroupResponse.INVALID;
      if (!context.pasids) reason = Fault.SM_PASID_DISABLED;
      else if (pasid.value >= caps.pasidEnd) reason = Fault.SM_PASID_TOO_LARGE;
    }
    if (reason === 0) return undefined;
    if (!(context.fpd && isQualified(reason))) {
      const access =
        Access.PAGE_REQUEST |
        (pasid?.execute ? Access.EXECUTE : 0) |
        (pasid?.privileged ? Access.PRIVILEGED : 0);
      const [lo, hi] = [loOf(message.address), hiOf(message.address)];
      log.record(sid, pasid?.value ?? NO_PASID, lo, hi, access, reason);
    }
    return answer;
  }

  /** Undefined: it is in the queue. Else the answer to what is lost: that the function tries again. */
  #write(sid: number, message: PageRequestMessage): GroupResponse | undefined {
    const { registers, memory, forget } = this.#parts;
    const status = registers.get(Offset.PRS);
    if ((status & PRO) !== 0) return GroupResponse.SUCCESS;
    const base = registers.get(Offset.PQA);
    const size = 2 ** ((base & 7) + 12);
    const tail = (registers.get(Offset.PQT) & POINTER) % size;
    const next = (tail + BYTES) % size;
    const isFull = next === (registers.get(Offset.PQH) & POINTER) % size;
    const page = registers.get(Offset.PQA + 4) * 2 ** 20 + (base >>> 12) + (tail >>> 12);
    if (isFull || !memory.writeBytes(page, tail & 0xfff, descriptorOf(sid, message))) {
      this.#raise(status, PRO);
      return GroupResponse.SUCCESS;
    }
    const { address, pasid } = message;
    forget(sid, pasid?.value ?? NO_PASID, hiOf(address) * 2 ** 20 + (loOf(address) >>> 12));
    registers.set(Offset.PQT, next);
    if ((status & PPR) === 0) this.#raise(status, PPR);
    return undefined;
  }

  /** Sets a bit of PRS: an event only where none was set. */
  #raise(status: number, bit: number): void {
    this.#parts.registers.set(Offset.PRS, status | bit);
    if ((status & (PPR | PRO)) === 0) this.event.raise();
  }
}

function descriptorOf(sid: number, message: PageRequestMessage): Uint8Array {
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
  return new Uint8Array(words.buffer);
}
