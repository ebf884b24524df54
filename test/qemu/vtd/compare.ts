// SPDX-License-Identifier: Apache-2.0
import { FRAME_LANES, MAX_RUN_LG2, type Ram } from '../../../src/memory/ram.ts';
import { FRAME_SIZE } from '../../../src/memory/frame.ts';
import type { Bench } from './bench.ts';
import type { UnitName } from './machine.ts';
import { type KnownDifference, knownDifferences } from './known_differences.ts';

const LANES_PER_CHUNK = 2 ** MAX_RUN_LG2 * FRAME_LANES;
const MOST_SHOWN = 8;

/** Compares what happened on QEMU and on the model, where a difference that is known counts as none. */
export class Comparison {
  /** How often each known difference was met. */
  readonly met = new Map<KnownDifference, number>();
  readonly #known: readonly KnownDifference[];

  /** `version` of QEMU. */
  constructor(version: string, known = knownDifferences) {
    this.#known = known.filter(
      ({ since = '0', until }) =>
        !isBefore(version, since) && (until === undefined || isBefore(version, until)),
    );
    for (const known of this.#known) this.met.set(known, 0);
  }

  /** What differs, in words; nothing where the two agree. */
  differences(name: string, unit: UnitName, qemu: Bench, model: Bench): string[] {
    const found = this.lines(name, unit, qemu, model, 0);
    return [...found, ...this.memory(name, unit, qemu, model)].slice(0, MOST_SHOWN);
  }

  /** As `differences`, of lines alone, from one on. */
  lines(name: string, unit: UnitName, qemu: Bench, model: Bench, from: number): string[] {
    return this.#lines(this.#knownOf(name, unit), qemu.lines, model.lines, from);
  }

  memory(name: string, unit: UnitName, qemu: Bench, model: Bench): string[] {
    return this.#memory(this.#knownOf(name, unit), qemu.hardware.mem.ram, model.hardware.mem.ram);
  }

  /** What a scenario is there to show and QEMU does not, unless that is known. For where there is nothing to compare with. */
  missed(name: string, unit: UnitName, qemu: Bench): string[] {
    const known = this.#knownOf(name, unit);
    return qemu.missed.filter((what) => {
      const [theirs, ours] = [`NOT SO: ${what}`, `so it is: ${what}`];
      return !this.#isKnownLine(known, theirs, ours);
    });
  }

  #knownOf(name: string, unit: UnitName): KnownDifference[] {
    return this.#known.filter(
      ({ units, scenarios }) => (units?.includes(unit) ?? true) && (scenarios?.test(name) ?? true),
    );
  }

  #lines(
    known: readonly KnownDifference[],
    qemu: readonly string[],
    model: readonly string[],
    from: number,
  ): string[] {
    const found: string[] = [];
    for (let i = from; i < Math.max(qemu.length, model.length); i++) {
      const [theirs, ours] = [qemu[i] ?? '(nothing)', model[i] ?? '(nothing)'];
      if (theirs === ours || this.#isKnownLine(known, theirs, ours)) continue;
      found.push(`line ${i}:\n  QEMU   ${theirs}\n  model  ${ours}`);
    }
    return found;
  }

  /** Known differences may come together in a line, and one may be another where it is: all ways are tried. */
  #isKnownLine(known: readonly KnownDifference[], theirs: string, ours: string): boolean {
    const way = wayTo(ours, theirs, known, 0);
    for (const one of way ?? []) this.#meet(one);
    return way !== undefined;
  }

  #memory(known: readonly KnownDifference[], qemu: Ram, model: Ram): string[] {
    const found: string[] = [];
    const chunks = Math.max(qemu.chunks.length, model.chunks.length);
    for (let i = 0; i < chunks; i++) {
      const [theirs, ours] = [qemu.chunks[i], model.chunks[i]];
      if (!theirs || !ours) {
        found.push(
          `memory: one has used ${qemu.chunks.length * 4} MiB, the other ${model.chunks.length * 4}`,
        );
        break;
      }
      if (Buffer.compare(bytesOf(theirs), bytesOf(ours)) === 0) continue;
      for (let lane = 0; lane < LANES_PER_CHUNK; lane++) {
        const a = theirs[lane] ?? 0;
        const b = ours[lane] ?? 0;
        if (a === b || this.#isKnownWord(known, lane, a ^ b)) continue;
        const address = qemu.firstFrame * FRAME_SIZE + (i * LANES_PER_CHUNK + lane) * 4;
        found.push(
          `memory at 0x${address.toString(16)}: QEMU 0x${a.toString(16)}, model 0x${b.toString(16)}`,
        );
        if (found.length >= MOST_SHOWN) return found;
      }
    }
    return found;
  }

  #isKnownWord(known: readonly KnownDifference[], lane: number, differing: number): boolean {
    const found = known.find((one) =>
      one.memory?.some(({ half, bits }) => half === lane % 2 && (differing & ~bits) === 0),
    );
    if (found) this.#meet(found);
    return found !== undefined;
  }

  #meet(known: KnownDifference): void {
    this.met.set(known, (this.met.get(known) ?? 0) + 1);
  }
}

const bytesOf = (lanes: Uint32Array): Uint8Array =>
  new Uint8Array(lanes.buffer, lanes.byteOffset, lanes.byteLength);

/** Versions as numbers: 11.1.3 is before 11.10. */
function isBefore(version: string, other: string): boolean {
  const [a, b] = [version, other].map((text) => text.split('.').map(Number));
  for (let i = 0; i < Math.max(a?.length ?? 0, b?.length ?? 0); i++) {
    const difference = (a?.[i] ?? 0) - (b?.[i] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}

/** The known differences, from index `from` on, that make `ours` of `theirs`; undefined where none do. */
function wayTo(
  ours: string,
  theirs: string,
  known: readonly KnownDifference[],
  from: number,
): KnownDifference[] | undefined {
  if (ours === theirs) return [];
  for (let i = from; i < known.length; i++) {
    const one = known[i];
    for (const { qemu, model } of one?.lines ?? []) {
      // Two overloads take the two kinds.
      const next =
        typeof model === 'string' ? theirs.replace(qemu, model) : theirs.replace(qemu, model);
      const rest = next === theirs ? undefined : wayTo(ours, next, known, i + 1);
      if (one && rest) return [one, ...rest];
    }
  }
  return undefined;
}
