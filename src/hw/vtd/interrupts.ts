// SPDX-License-Identifier: Apache-2.0
import type { InterruptMessage, Interrupts as Requests } from '../../kernel/hardware.ts';
import { type Body, until } from '../../sim/task.ts';

/** Messages go to this address: low half. */
const ADDRESS = 0xfee0_0000;

/** The unit's own interrupts: messages that wait, and handlers by the data of their message. */
export class Interrupts implements Requests {
  readonly #handlers = new Map<number, () => void>();
  readonly #messages: { readonly lo: number; readonly hi: number; readonly data: number }[] = [];
  #vectors = 0;

  /** For the unit: a message that a task delivers. */
  send(lo: number, hi: number, data: number): void {
    this.#messages.push({ lo, hi, data });
  }

  request(handler: () => void): InterruptMessage {
    const message = { address: BigInt(ADDRESS), data: ++this.#vectors };
    this.#handlers.set(message.data, handler);
    return message;
  }

  release({ data }: InterruptMessage): void {
    this.#handlers.delete(data);
  }

  /** What waits comes to nothing. */
  reset(): void {
    this.#messages.length = 0;
  }

  *body(): Body {
    for (;;) {
      yield until('an interrupt', () => this.#messages.length > 0);
      const message = this.#messages.shift();
      if (message?.lo === ADDRESS && message.hi === 0) this.#handlers.get(message.data)?.();
      yield 'an interrupt was delivered';
    }
  }
}
