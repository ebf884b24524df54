// SPDX-License-Identifier: Apache-2.0
import { errnoName } from '../../../src/base/errno.ts';
import type { Task } from '../../../src/kernel/task.ts';
import { Machine } from '../../../src/machine/machine.ts';
import type { IommufdFile } from '../../../src/iommufd/dispatch.ts';
import type { MmapRegion } from '../../../src/iommufd/mmap.ts';
import { Sim } from '../../../src/sim/sim.ts';
import { Arguments } from './arguments.ts';
import { ScriptClient } from './client.ts';
import { place, type Request } from './ioctl.ts';
import { ops } from './ops.ts';
import { PasidLedger } from './pasids.ts';
import { parseScript, type ScriptLine } from './script.ts';

const CONTEXTS = 4;

interface OpenContext {
  readonly fd: number;
  readonly file: IommufdFile;
}

/** Plays scripts as exec.c does on the real kernel, in process against the engine, and answers the same lines. */
export class Player {
  readonly machine = new Machine({ sim: new Sim({ checkLocks: true }) });
  readonly client = new ScriptClient();
  readonly pasids = new PasidLedger();
  /** Maps of /dev/iommu by address; undefined once unmapped. */
  readonly maps = new Map<bigint, MmapRegion | undefined>();
  /** Why the last call failed, in the engine's words. */
  why = '';
  args: Arguments = new Arguments({ op: '', args: new Map(), text: '' }, []);
  private readonly contexts: (OpenContext | undefined)[] = [];
  private readonly outputs: Map<string, bigint>[] = [];
  private current = 0;
  private line = '';

  constructor() {
    this.open();
  }

  /** Which of the four descriptors of /dev/iommu calls go to. */
  get contextIndex(): number {
    return this.current;
  }

  /** The open /dev/iommu that calls go to. */
  get context(): OpenContext {
    const context = this.contexts[this.current];
    if (!context) throw new Error(`context ${this.current} is not open`);
    return context;
  }

  /** Makes another descriptor the current one, opened when first used. */
  select(index: number): void {
    this.current = index % CONTEXTS;
    if (!this.contexts[this.current]) this.open();
  }

  open(): void {
    const file = this.machine.iommufd.open();
    const fd = this.client.process.add({ kind: 'device', file });
    this.contexts[this.current] = { fd, file };
  }

  /** Closes the current descriptor and opens another in its place. */
  reopen(): void {
    this.client.process.close(this.context.fd);
    this.open();
  }

  /** Appends to the line of the op under way. */
  print(text: string): void {
    this.line += text;
  }

  /** Keeps a value for later ops, as `$N.name`. */
  output(name: string, value: number | bigint): void {
    this.outputs.at(-1)?.set(name, BigInt(value));
  }

  /** True where the structure comes back to where an op looks for it. */
  get pointerIsGood(): boolean {
    const ptr = this.args.text('ptr');
    return ptr === undefined || ptr === 'edge';
  }

  /** Makes an ioctl with a structure, with the modifiers of the op, and prints the head of the result. */
  call(cmd: number, request: Request<unknown>): boolean {
    const { value, touched, outside } = this.request(cmd, request);
    return this.head(value, touched, outside);
  }

  /** As `call`, printing nothing. */
  request(
    cmd: number,
    request: Request<unknown>,
  ): { value: number; touched: boolean; outside: boolean } {
    const { client, args } = this;
    const placed = place(client.arena, args, request);
    const call = (task: Task): number => this.ioctl(cmd, placed.address, task);
    const value = args.u64('fork') ? client.inChild(call) : call(client.process);
    return { value, ...placed.after() };
  }

  /** An ioctl as it is: a result of 0 or more, or a negative errno. */
  ioctl(cmd: number, arg: bigint, task: Task = this.client.process): number {
    const { value, why } = this.context.file.ioctl(task, cmd, arg);
    this.why = why;
    return value;
  }

  /** Prints the head of a result; true where it is no error. */
  head(value: number, touched = false, outside = false): boolean {
    this.print(value < 0 ? ` ret=-1 ${errnoName(-value)}` : ` ret=${value} OK`);
    if (value < 0 && touched) this.print(' touched');
    if (outside) this.print(' OOB');
    return value >= 0;
  }

  play(line: ScriptLine): string {
    this.args = new Arguments(line, this.outputs);
    this.outputs.push(new Map());
    this.line = '';
    this.why = '';
    const op = ops.get(line.op);
    if (op) op(this);
    else this.print(' UNKNOWN-OP');
    return `${this.outputs.length - 1} ${line.op}${this.line}`;
  }

  /** The end of the process; what the engine still holds then, which should be nothing. */
  end(): { pins: number; contexts: number } {
    this.contexts.forEach((context, index) => {
      this.current = index;
      if (context) this.pasids.detachAll(this, index);
    });
    for (const region of this.maps.values()) region?.closed();
    this.client.process.exit();
    const { memory, iommufd } = this.machine;
    return { pins: memory.pinCount, contexts: iommufd.contexts.length };
  }
}

export interface Played {
  /** One line a call, and `END n`. */
  readonly lines: readonly string[];
  /** The engine's explanation of each call that failed, '' elsewhere. */
  readonly why: readonly string[];
  /** Pins and contexts left at the end. */
  readonly left: { readonly pins: number; readonly contexts: number };
}

/** Plays a whole script on a machine of its own. */
export function playScript(script: string): Played {
  const player = new Player();
  const lines: string[] = [];
  const why: string[] = [];
  for (const line of parseScript(script)) {
    lines.push(player.play(line));
    why.push(player.why);
  }
  lines.push(`END ${lines.length}`);
  return { lines, why, left: player.end() };
}
