// SPDX-License-Identifier: Apache-2.0
import { field, register } from '../base/register.ts';
import type { ConfigRegister } from './config_space.ts';
import { ExtendedCapabilityId, PlacedCapability } from './extended_capability.ts';
import { plain } from './header.ts';
import {
  GroupResponse,
  type GroupResponseMessage,
  isStopMarker,
  type PageRequestMessage,
} from './ats_messages.ts';

const CONTROL = 0x04;
const STATUS = 0x06;
const CAPACITY = 0x08;
const ALLOCATION = 0x0c;
/** Group indexes have 9 bits. */
export const PAGE_REQUEST_GROUPS = 512;

const control = register('Page Request Control', {
  Enable: field(0, 0),
  // Reads 0: it is taken away again.
  Reset: field(1, 1),
});
const status = register('Page Request Status', {
  ResponseFailure: field(0, 0, { access: 'RW1C' }),
  UnexpectedPageRequestGroupIndex: field(1, 1, { access: 'RW1C' }),
  Stopped: field(8, 8, { access: 'RO' }),
  PrgResponsePasidRequired: field(15, 15, { access: 'RO' }),
});

export interface PriOptions {
  /** Page requests that can be outstanding at most. */
  readonly capacity: number;
  /** Responses must carry the PASID of their requests. Default true. */
  readonly pasidRequired?: boolean;
}

/** Why a page request is not sent; undefined: it was. */
export const PageRequestRefusal = {
  DISABLED: 'page requests are off',
  NO_CREDIT: 'as many page requests are outstanding as are allowed',
  FAILED: 'a response failure has stopped page requests',
} as const;
export type PageRequestRefusal = (typeof PageRequestRefusal)[keyof typeof PageRequestRefusal];

interface OutstandingGroup {
  readonly pasid: number | undefined;
  requests: number;
}

/**
 * The Page Request Interface of a physical function, which its virtual functions share: who may ask, and what is outstanding.
 * Source of the layout: Linux include/uapi/linux/pci_regs.h (PCI_PRI_*); that enabling wants Stopped, that reset wants Enable off:
 * Linux drivers/pci/ats.c. What the rest does is ours where the README says so (the specification: unverified).
 */
export class PriCapability extends PlacedCapability {
  override readonly name = 'PRI';
  override readonly id = ExtendedCapabilityId.PRI;
  override readonly version = 1;
  override readonly bytes = 16;
  override readonly registers: readonly ConfigRegister[];
  readonly capacity: number;
  readonly pasidRequired: boolean;
  /** Told that outstanding requests are forgotten: those of one requester id, or all. */
  readonly onForget = new Set<(requesterId: number | undefined) => void>();
  /** By requester id and group: what a response will come for. */
  readonly #groups = new Map<number, OutstandingGroup>();
  #outstanding = 0;
  #wasEnabled = false;

  constructor(options: PriOptions) {
    super();
    const { capacity, pasidRequired = true } = options;
    if (!(Number.isInteger(capacity) && capacity >= 1 && capacity < 2 ** 32))
      throw new RangeError(`PRI with ${capacity} requests outstanding: it is 1 to 2^32-1`);
    this.capacity = capacity;
    this.pasidRequired = pasidRequired;
    const { Stopped: stopped, PrgResponsePasidRequired: required } = status.fields;
    const value = required.setLo(stopped.setLo(0, 1), pasidRequired ? 1 : 0);
    this.registers = [
      { at: CONTROL, bytes: 2, register: control },
      { at: STATUS, bytes: 2, value, register: status },
      {
        at: CAPACITY,
        bytes: 4,
        value: capacity,
        register: plain('OutstandingPageRequestCapacity', 32, 'RO'),
      },
      { at: ALLOCATION, bytes: 4, register: plain('OutstandingPageRequestAllocation', 32, 'RW') },
    ];
  }

  get enabled(): boolean {
    return control.fields.Enable.get(this.get(CONTROL, 2)) === 1;
  }

  /** Disabled, and every request that was sent has been answered. */
  get stopped(): boolean {
    return status.fields.Stopped.get(this.get(STATUS, 2)) === 1;
  }

  get failed(): boolean {
    return status.fields.ResponseFailure.get(this.get(STATUS, 2)) === 1;
  }

  get outstanding(): number {
    return this.#outstanding;
  }

  /** How many requests may be outstanding: what software allows, and no more than there can be. */
  get allocation(): number {
    return Math.min(this.capacity, this.get(ALLOCATION, 4));
  }

  /** Counts a request that goes out, or says why it may not. A stop marker takes no credit: nothing answers it. */
  admit(requesterId: number, message: PageRequestMessage): PageRequestRefusal | undefined {
    if (!this.enabled) return PageRequestRefusal.DISABLED;
    if (this.failed) return PageRequestRefusal.FAILED;
    if (isStopMarker(message)) return undefined;
    if (this.#outstanding >= this.allocation) return PageRequestRefusal.NO_CREDIT;
    const key = keyOf(requesterId, message.group);
    const group = this.#groups.get(key);
    if (group) group.requests++;
    else this.#groups.set(key, { pasid: message.pasid?.value, requests: 1 });
    this.#outstanding++;
    return undefined;
  }

  /**
   * A response has come: true where it ends a group that is outstanding. An unexpected one is noted in Status and goes no further.
   * One that says FAILURE stops page requests, of all functions that share this.
   */
  accept(requesterId: number, { group: index, pasid, code }: GroupResponseMessage): boolean {
    const key = keyOf(requesterId, index);
    const group = this.#groups.get(key);
    if (!group || (this.pasidRequired && group.pasid !== pasid)) {
      this.#note('UnexpectedPageRequestGroupIndex');
      return false;
    }
    this.#groups.delete(key);
    this.#outstanding -= group.requests;
    if (code === GroupResponse.FAILURE) this.#note('ResponseFailure');
    this.update();
    return true;
  }

  /** Forgets the requests of one function, which was reset: what comes for them is unexpected. */
  forget(requesterId?: number): void {
    for (const [key, { requests }] of this.#groups) {
      if (requesterId !== undefined && Math.floor(key / PAGE_REQUEST_GROUPS) !== requesterId) {
        continue;
      }
      this.#groups.delete(key);
      this.#outstanding -= requests;
    }
    for (const tell of this.onForget) tell(requesterId);
    this.update();
  }

  update(): void {
    const held = this.get(CONTROL, 2);
    const { enabled } = this;
    if (control.fields.Reset.get(held) === 1) {
      this.set(CONTROL, 2, control.fields.Reset.setLo(held, 0));
      // No effect while it is enabled.
      if (!enabled) {
        this.#groups.clear();
        this.#outstanding = 0;
        for (const tell of this.onForget) tell(undefined);
      }
    }
    let now = this.get(STATUS, 2);
    if (enabled && !this.#wasEnabled) now = status.fields.ResponseFailure.setLo(now, 0);
    this.#wasEnabled = enabled;
    const stopped = !enabled && this.#outstanding === 0;
    this.set(STATUS, 2, status.fields.Stopped.setLo(now, stopped ? 1 : 0));
  }

  /** What a driver does first, as Linux's `pci_enable_pri()`: on with so many outstanding at most. False where it is on, or not stopped. */
  enable(requests: number): boolean {
    if (this.enabled || !this.stopped) return false;
    this.set(ALLOCATION, 4, Math.min(requests, this.capacity));
    this.set(CONTROL, 2, 1);
    this.update();
    return true;
  }

  /** No more page requests; those that are outstanding are still to be answered. */
  disable(): void {
    this.set(CONTROL, 2, 0);
    this.update();
  }

  /** What a driver does to a disabled one that has not stopped: it forgets what is outstanding. */
  reset(): void {
    const held = this.get(CONTROL, 2);
    this.set(CONTROL, 2, control.fields.Reset.setLo(held, 1));
    this.update();
  }

  #note(bit: 'UnexpectedPageRequestGroupIndex' | 'ResponseFailure'): void {
    this.set(STATUS, 2, status.fields[bit].setLo(this.get(STATUS, 2), 1));
  }
}

const keyOf = (requesterId: number, group: number): number =>
  requesterId * PAGE_REQUEST_GROUPS + group;
