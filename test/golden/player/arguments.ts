// SPDX-License-Identifier: Apache-2.0
/** Values of a script: `0x1000+$3.iova-SH`, lists `a:b,c:d`, and pointers that may be wrong on purpose. */
import { addressOf, Place } from './client.ts';
import type { ScriptLine } from './script.ts';

/** What an op made, by name, in order: `$3` is the first of op 3. */
export type Outputs = ReadonlyMap<string, bigint>;

/** Stands for the output of an op that failed. */
const MISSING = 0xdead_0000n;
const MISSING_FD = BigInt.asUintN(64, -1n);

const REFERENCE = /^\$(\d+)(?:\.([^+\-:,]*))?/;
const NUMBER = /^(?:0[xX][0-9a-fA-F]+|\d+)/;

/** The arguments of one op, evaluated when asked for; all numbers are u64 and wrap. */
export class Arguments {
  private readonly line: ScriptLine;
  private readonly outputs: readonly Outputs[];

  constructor(line: ScriptLine, outputs: readonly Outputs[]) {
    this.line = line;
    this.outputs = outputs;
  }

  has(key: string): boolean {
    return this.line.args.has(key);
  }

  text(key: string): string | undefined {
    return this.line.args.get(key);
  }

  u64(key: string, absent: number | bigint = 0n): bigint {
    const text = this.text(key);
    if (text === undefined) return BigInt.asUintN(64, BigInt(absent));
    return this.evaluate(text, key === 'fd' || key === 'acc');
  }

  u32(key: string, absent: number | bigint = 0): number {
    return Number(BigInt.asUintN(32, this.u64(key, absent)));
  }

  /** An int: what a descriptor number is. */
  int(key: string, absent: number | bigint = 0): number {
    return this.u32(key, absent) | 0;
  }

  /** A pointer, which may also be `null`, `bad` (nothing is there) or `ro` (read-only memory). */
  pointer(key: string, absent: bigint): bigint {
    switch (this.text(key)) {
      case undefined:
        return absent;
      case 'null':
        return 0n;
      case 'bad':
        return Place.XX;
      case 'ro':
        return Place.RO;
      default:
        return this.u64(key);
    }
  }

  /** A list of tuples of `width` numbers, at most `most`; what a tuple does not have is 0. */
  tuples(key: string, width: number, most = 32): bigint[][] {
    const text = this.text(key);
    if (!text) return [];
    const items = text.split(',');
    if (items.at(-1) === '') items.pop();
    return items.slice(0, most).map((item) => {
      const parts = item.split(':');
      return Array.from({ length: width }, (_, i) => this.evaluate(parts[i] ?? '', false));
    });
  }

  /** The value of an expression; what is not understood ends it. */
  evaluate(text: string, isFd: boolean): bigint {
    let total = 0n;
    let sign = 1n;
    for (let rest = text; rest !== '';) {
      const first = rest.charAt(0);
      if (first === '+' || first === '-') {
        sign = first === '+' ? 1n : -1n;
        rest = rest.slice(1);
        continue;
      }
      const term = this.term(rest, isFd);
      if (!term) break;
      total += sign * term.value;
      sign = 1n;
      rest = rest.slice(term.length);
    }
    return BigInt.asUintN(64, total);
  }

  private term(text: string, isFd: boolean): { value: bigint; length: number } | undefined {
    const reference = REFERENCE.exec(text);
    if (reference) {
      const outputs = this.outputs[Number(reference[1])];
      const name = reference[2];
      const value = name ? outputs?.get(name) : outputs?.values().next().value;
      return { value: value ?? (isFd ? MISSING_FD : MISSING), length: reference[0].length };
    }
    const number = NUMBER.exec(text)?.[0];
    if (number !== undefined) return { value: BigInt(number), length: number.length };
    if (/^[A-Z]/.test(text)) return { value: addressOf(text.slice(0, 2)), length: 2 };
    return undefined;
  }
}
