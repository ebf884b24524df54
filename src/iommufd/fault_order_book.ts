// SPDX-License-Identifier: Apache-2.0
/** For tests: what a device asked for and what became of it, and what must hold of that in any order. */
import { PageResponseCode } from '../iommu/fault.ts';

/** Whom the device asks: its client, through what is attached, or the handler that is registered at its PASID. */
export type Asked = 'client' | 'handler';
export const BOTH: readonly Asked[] = ['client', 'handler'];

/** A group index of its own each, which is used again. */
export const GROUP_INDEX: Readonly<Record<Asked, number>> = { client: 3, handler: 4 };
/** By its address a group is known wherever it turns up. */
const ADDRESS_STEP = 0x1000;

const { SUCCESS, INVALID, FAILURE } = PageResponseCode;

/** A completed group. */
export interface Group {
  /** When its last request was sent, in ticks. */
  readonly sentAt: number;
  answer: PageResponseCode | undefined;
  /** A user is answering it; and the answer was taken. */
  isUsers: boolean;
  isTaken: boolean;
}

export function check(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(what);
}

export class FaultOrderBook {
  readonly groups: Readonly<Record<Asked, Group[]>> = { client: [], handler: [] };
  #ticks = 0;

  /** Of a clock that only orders what happens. */
  tick(): number {
    return ++this.#ticks;
  }

  /** A group is completed now, if `send` says so, which is given the address. */
  sent(asked: Asked, send: (address: bigint) => boolean): void {
    const groups = this.groups[asked];
    groups.push({ sentAt: this.tick(), answer: undefined, isUsers: false, isTaken: false });
    if (!send(BigInt(groups.length * ADDRESS_STEP))) groups.pop();
  }

  /** The newest group of those that ask one has its answer. */
  isAnswered(asked: Asked): boolean {
    const group = this.groups[asked].at(-1);
    return group !== undefined && group.answer !== undefined;
  }

  groupAt(asked: Asked, address: number): Group {
    const group = this.groups[asked][address / ADDRESS_STEP - 1];
    check(group !== undefined, `a fault at 0x${address.toString(16)}, which nobody asked for`);
    return group;
  }

  /** The device has an answer. */
  answered(index: number, code: PageResponseCode): void {
    const asked = index === GROUP_INDEX.client ? 'client' : 'handler';
    const group = this.groups[asked].at(-1);
    check(group !== undefined && group.answer === undefined, 'a second answer (C13)');
    check(code !== FAILURE, 'FAILURE, and nobody failed (C7)');
    check(code === INVALID || group.isUsers, 'SUCCESS, and no user said so');
    group.answer = code;
  }

  /** A user answers SUCCESS; `respond` says whether that was taken. */
  answer(group: Group, respond: () => boolean): void {
    const wasAnswered = group.answer !== undefined;
    group.isUsers = true;
    group.isTaken = respond();
    group.isUsers = group.isTaken;
    check(!(wasAnswered && group.isTaken), 'a late answer is taken (C8, C10)');
  }

  /** What was asked before `begun` has its answer, or a user is giving it. */
  checkAnswered(asked: Asked, begun: number, what: string): void {
    for (const { sentAt, answer, isUsers } of this.groups[asked])
      check(sentAt > begun || answer !== undefined || isUsers, `a page request outlives ${what}`);
  }

  /** Exactly one answer each, and the one that its user gave where that was taken. */
  checkEnd(): void {
    for (const asked of BOTH) {
      for (const { answer, isTaken } of this.groups[asked]) {
        check(answer !== undefined, 'a group has no answer (C13)');
        check(isTaken === (answer === SUCCESS), 'an answer was taken and another one given');
      }
    }
  }

  /** What became of each group, as text. */
  get outcome(): string {
    const answers = (asked: Asked): string =>
      this.groups[asked].map(({ answer, isTaken }) => `${answer} ${isTaken}`).join();
    return BOTH.map(answers).join('; ');
  }
}
