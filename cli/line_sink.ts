// SPDX-License-Identifier: Apache-2.0
import { writeSync } from 'node:fs';

/** Takes whole lines, without their ends. */
export interface LineSink {
  line(text: string): void;
}

const pauseCell = new Int32Array(new SharedArrayBuffer(4));
const pause = (milliseconds: number): void => void Atomics.wait(pauseCell, 0, 0, milliseconds);

const codeOf = (error: unknown): string | undefined =>
  error instanceof Error && 'code' in error ? String(error.code) : undefined;

/**
 * Lines to a descriptor, each in one write before the program continues: they stand in order with the program's own
 * output, two writers of one pipe do not cut into each other's lines (up to PIPE_BUF, 4096 bytes), and none is lost
 * however the program or iommulator ends. A write costs about 2 us, less than a traced call; measured, a buffer
 * would save no more than that.
 *
 * A destination that fails (disk full, reader gone) ends the output and not the program: `failure` keeps the reason.
 */
export class DescriptorSink implements LineSink {
  readonly #fd: number;
  #failure: string | undefined;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Why output stopped (an errno name), or undefined while it works. */
  get failure(): string | undefined {
    return this.#failure;
  }

  line(text: string): void {
    if (this.#failure !== undefined) return;
    const bytes = Buffer.from(`${text}\n`);
    let done = 0;
    while (done < bytes.length) {
      try {
        done += writeSync(this.#fd, bytes, done);
      } catch (error) {
        const code = codeOf(error);
        // The descriptor may be a non-blocking pipe that we share with others: wait for its reader.
        if (code === 'EAGAIN') pause(1);
        else if (code !== 'EINTR') {
          this.#failure = code ?? String(error);
          return;
        }
      }
    }
  }
}
