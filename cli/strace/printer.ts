// SPDX-License-Identifier: Apache-2.0
import type { Access } from '../../host/observer.ts';
import type { DeviceFile, IoctlResult } from '../../src/kernel/file.ts';
import type { LineSink } from '../line_sink.ts';
import type { Style } from '../style.ts';
import { accessText } from './access.ts';
import { type IoctlCall, ioctlText, resultText } from './ioctl.ts';

/** Prints what happens on our descriptors, a line for each event, as strace does for all descriptors. */
export class Printer {
  readonly #sink: LineSink;
  readonly #style: Style;
  #onlyPid: number | undefined;
  #several = false;
  /** Lines about what a call set in motion, until the call itself is printed. */
  readonly #pending: string[] = [];

  constructor(sink: LineSink, style: Style) {
    this.#sink = sink;
    this.#style = style;
  }

  /** A process asked for one of our files: `value` is the descriptor it got, or a negative errno. */
  opened(pid: number, path: string, result: Pick<IoctlResult, 'value' | 'why'>): void {
    this.#print(pid, `open(${JSON.stringify(path)}) = ${resultText(result, this.#style)}`);
  }

  called(pid: number, call: IoctlCall): void {
    this.#print(pid, ioctlText(call, this.#style));
  }

  /** A read or write of a file that can be read and written. */
  accessed(pid: number, fd: number, file: DeviceFile, access: Access): void {
    this.#print(pid, accessText(fd, file, access, this.#style));
  }

  /** Keeps a line about what the call under way sets in motion, for after it. */
  afterwards(text: string): void {
    this.#pending.push(text);
  }

  /** Another call on our descriptors, or a remark, already in words; a result `= -22` becomes `= -1 EINVAL`. */
  other(pid: number, text: string): void {
    const shown = text.replace(/ = -(\d+)$/, (_, errno: string) => {
      return ` = ${resultText({ value: -Number(errno), why: '' }, this.#style)}`;
    });
    this.#print(pid, shown);
  }

  /** The last descriptor of a file is gone; `held` names what the program had not given back. */
  closed(name: string, held: string): void {
    const rest = held === '' ? '' : `, which still held ${held}`;
    this.#sink.line(this.#style.dim(`--- last close of ${name}${rest} ---`));
    this.#flush();
  }

  /** The end of the run: the exit status as a shell would show it. */
  exited(exitStatus: number): void {
    this.#sink.line(this.#style.dim(`+++ exited with ${exitStatus} +++`));
  }

  /** Lines name the process from the moment that a second one appears. */
  #print(pid: number, text: string): void {
    this.#onlyPid ??= pid;
    if (pid !== this.#onlyPid) this.#several = true;
    this.#sink.line(this.#several ? `[pid ${pid}] ${text}` : text);
    this.#flush();
  }

  #flush(): void {
    for (const text of this.#pending.splice(0)) this.#sink.line(`  ${this.#style.dim(text)}`);
  }
}
