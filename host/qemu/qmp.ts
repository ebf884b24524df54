// SPDX-License-Identifier: Apache-2.0
import { HostError } from '../host_error.ts';
import type { LinePipe } from './line_pipe.ts';

interface Message {
  readonly QMP?: { readonly version: { readonly qemu: QemuVersion } };
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
  readonly event?: string;
}

export interface QemuVersion {
  readonly major: number;
  readonly minor: number;
  readonly micro: number;
}

/** QEMU's monitor protocol: commands and events, a line of JSON each. */
export class Qmp {
  readonly version: QemuVersion;
  readonly #pipe: LinePipe;
  #events: string[] = [];

  constructor(pipe: LinePipe) {
    this.#pipe = pipe;
    const greeting = this.#next().QMP;
    if (!greeting) throw new HostError('the monitor of QEMU does not greet');
    this.version = greeting.version.qemu;
    this.execute('qmp_capabilities');
  }

  execute(command: string): unknown {
    this.#pipe.send(JSON.stringify({ execute: command }));
    for (;;) {
      const message = this.#next();
      if (message.error) throw new HostError(`QEMU refuses '${command}': ${message.error.desc}`);
      if ('return' in message) return message.return;
    }
  }

  /** The same, and waits for an event that it brings about. */
  executeUntil(command: string, event: string): void {
    this.#events = [];
    this.execute(command);
    while (!this.#events.includes(event)) this.#next();
  }

  #next(): Message {
    const message = JSON.parse(this.#pipe.receive()) as Message;
    if (message.event !== undefined) this.#events.push(message.event);
    return message;
  }
}
