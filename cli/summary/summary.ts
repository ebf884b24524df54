// SPDX-License-Identifier: Apache-2.0
import { Durations } from './durations.ts';
import { isEnding, processOf } from './process_end.ts';
import { type Row, tableLines } from './table.ts';

interface Count {
  readonly durations: Durations;
  errors: number;
}

/** An open file: identity is all that matters here. */
interface File {
  readonly name: string;
}

/** What the summary asks of the world about processes. */
export interface Processes {
  of(tid: number): number;
  isEnding(pid: number): boolean;
}

/** Counts calls by name, and keeps what programs left for the kernel to clean up. */
export class Summary {
  readonly #processes: Processes;
  readonly #counts = new Map<string, Count>();
  /** By file: the thread that used it last. */
  readonly #users = new Map<File, number>();
  /** What was left, in words, and how often. */
  readonly #left = new Map<string, number>();

  constructor(processes: Processes = { of: processOf, isEnding }) {
    this.#processes = processes;
  }

  opened(pid: number, file: File): void {
    this.#users.set(file, pid);
  }

  /**
   * `name`: the ioctl, or the system call; `value`: what the call returned; `micros`: how long the engine worked on it, in
   * microseconds.
   */
  called(pid: number, file: File, name: string, value: number, micros: number): void {
    this.#users.set(file, pid);
    let count = this.#counts.get(name);
    if (!count) this.#counts.set(name, (count = { durations: new Durations(), errors: 0 }));
    count.durations.add(micros);
    if (value < 0) count.errors++;
  }

  /** The last descriptor of a file is gone; `held` names the objects that nobody had destroyed before. */
  closed(file: File, held: string): void {
    const tid = this.#users.get(file);
    this.#users.delete(file);
    const pid = tid === undefined ? undefined : this.#processes.of(tid);
    const byExit = pid !== undefined && this.#processes.isEnding(pid);
    if (byExit) {
      const objects = held === '' ? '' : `, with ${held}`;
      this.#leave(`${file.name} of process ${pid}, not closed${objects}`);
    } else if (held !== '') this.#leave(`${file.name}, closed with ${held}`);
  }

  #leave(text: string): void {
    this.#left.set(text, (this.#left.get(text) ?? 0) + 1);
  }

  lines(): string[] {
    const rows: Row[] = [...this.#counts].map(([name, count]) => ({ name, ...count }));
    const left = [...this.#left].map(
      ([text, times]) => `  ${text}${times === 1 ? '' : ` (${times} times)`}`,
    );
    return [
      ...tableLines(rows),
      ...(left.length === 0 ? ['left open: nothing'] : ['left open:', ...left]),
    ];
  }
}
