// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HostError } from '../host_error.ts';
import { LinePipe } from './line_pipe.ts';
import { Qmp } from './qmp.ts';
import { Qtest } from './qtest.ts';
import { RamFile } from './ram_file.ts';

export interface QemuOptions {
  /** The program, and what stands before all other arguments. */
  readonly command: string;
  readonly args?: readonly string[];
  /** With `machine` of `-M`. */
  readonly machine: string;
  readonly devices: readonly string[];
  readonly ramMiB: number;
  /** Names of trace events, whose lines `takeTrace` returns. */
  readonly trace?: readonly string[];
  /** What else it shall log, as its option `-d` has it. */
  readonly log?: string;
}

/**
 * A QEMU that runs nothing: no guest, no firmware's code. Registers of its devices are reached by qtest, its memory is a file that is
 * mapped here too. It ends with `stop`, or with this process.
 */
export class QemuProcess {
  readonly qtest: Qtest;
  readonly qmp: Qmp;
  readonly ram: RamFile;
  readonly pid: number;
  /** All that it uses, and is removed with it. */
  readonly folder: string;
  readonly #pipes: LinePipe[] = [];
  readonly #child: ChildProcess;
  readonly #errors: string;
  readonly #trace: number;
  readonly #traceBuffer = Buffer.alloc(1 << 14);
  readonly #atExit = (): void => this.stop();
  #rest = '';
  #hasStopped = false;

  /** Throws HostError with what it said where it does not start. */
  constructor(options: QemuOptions) {
    // Memory that is a file should not be written to a disk.
    this.folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'iommulator-'));
    this.#errors = join(this.folder, 'stderr');
    const stderr = openSync(this.#errors, 'w');
    this.#trace = openSync(this.#errors, 'r');
    process.once('exit', this.#atExit);
    const qtest = this.#pipe('qtest');
    const qmp = this.#pipe('qmp');
    this.ram = new RamFile(join(this.folder, 'ram'), options.ramMiB * 2 ** 20);
    const args = [
      ...(options.args ?? []),
      ...['-accel', 'qtest', '-display', 'none', '-nodefaults', '-qtest-log', '/dev/null'],
      ...['-chardev', `pipe,id=qtest,path=${qtest.path}`, '-qtest', 'chardev:qtest'],
      ...['-chardev', `pipe,id=qmp,path=${qmp.path}`, '-mon', 'chardev=qmp,mode=control'],
      ...['-M', `${options.machine},memory-backend=ram`, '-m', `${options.ramMiB}M`],
      '-object',
      `memory-backend-file,id=ram,size=${options.ramMiB}M,mem-path=${this.ram.path},share=on`,
      ...options.devices.flatMap((device) => ['-device', device]),
      ...(options.trace ?? []).flatMap((event) => ['-trace', event]),
      ...(options.log === undefined ? [] : ['-d', options.log]),
    ];
    this.#child = spawn(options.command, args, { stdio: ['ignore', 'ignore', stderr] });
    // Where it can not be started there is no pid; what else it says of itself is read from its pipes.
    this.#child.on('error', () => undefined);
    this.#child.unref();
    closeSync(stderr);
    this.pid = this.#child.pid ?? 0;
    try {
      if (this.pid === 0) throw new HostError(`${options.command} cannot be started`);
      this.qmp = new Qmp(qmp);
      this.qtest = new Qtest(qtest);
      this.qtest.step(1);
    } catch (error) {
      this.stop();
      throw error;
    }
  }

  /** Lines of its trace events, and of all else that it says, since the last time. */
  takeTrace(): string[] {
    for (;;) {
      const count = readSync(this.#trace, this.#traceBuffer, 0, this.#traceBuffer.length, null);
      if (count === 0) break;
      this.#rest += this.#traceBuffer.toString('latin1', 0, count);
    }
    if (this.#rest === '') return NO_LINES;
    const lines = this.#rest.split('\n');
    this.#rest = lines.pop() ?? '';
    return lines;
  }

  /** As power off and on; memory keeps its bytes. */
  reset(): void {
    this.qmp.executeUntil('system_reset', 'RESET');
  }

  /** Ends it and removes its files. */
  stop(): void {
    if (this.#hasStopped) return;
    this.#hasStopped = true;
    process.off('exit', this.#atExit);
    if (this.pid > 0) this.#child.kill('SIGKILL');
    for (const pipe of this.#pipes) pipe.close();
    closeSync(this.#trace);
    this.ram?.unmap();
    rmSync(this.folder, { recursive: true, force: true });
  }

  #pipe(name: string): LinePipe {
    const pipe = new LinePipe(join(this.folder, name), {
      hasEnded: () => this.#hasEnded(),
      said: () => readFileSync(this.#errors, 'utf8').split('\n').slice(-6).join('\n'),
    });
    this.#pipes.push(pipe);
    return pipe;
  }

  /** Node hears of it only between calls: until then it is a zombie. */
  #hasEnded(): boolean {
    try {
      return /\) Z /.test(readFileSync(`/proc/${this.pid}/stat`, 'latin1'));
    } catch {
      return true;
    }
  }
}

const NO_LINES: string[] = [];
