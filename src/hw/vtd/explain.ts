// SPDX-License-Identifier: Apache-2.0
/**
 * A walk for people: every entry on the way from a requester and an address, read from memory and decoded, and where the way ends. It is not
 * what translates (`bindings.ts`, `walker.ts`), caches nothing and records nothing: where caches hold something else, it shows what
 * they should.
 */
import {
  CONTEXT_HIGH,
  CONTEXT_LOW,
  FIRST_STAGE,
  PASID_DIRECTORY,
  PASID_WORDS,
  ROOT,
  SCALABLE_CONTEXT_HIGH,
  SCALABLE_CONTEXT_LOW,
  SECOND_STAGE,
} from './entries.ts';
import { Pgtt } from './iotlb.ts';
import type { PhysicalMemory } from './physical_memory.ts';

interface FieldOf {
  get(lo: number, hi?: number): number;
}
/** A word of a table by its name and fields. */
interface Word {
  readonly name: string;
  readonly fields: Readonly<Record<string, FieldOf>>;
}
/** The fields of a word that was read. */
interface Entry {
  get(name: string): number;
}

const PAGE_BITS = 9;
const kinds: Readonly<Record<number, string>> = {
  [Pgtt.FIRST]: 'first stage only',
  [Pgtt.SECOND]: 'second stage only',
  [Pgtt.NESTED]: 'nested: the first stage on the second',
  [Pgtt.PASS_THROUGH]: 'pass-through: no table',
};

export interface ExplainedUnit {
  readonly memory: PhysicalMemory;
  /** Page of the root table; undefined while translation is off. */
  readonly root: number | undefined;
  readonly isScalable: boolean;
}

export interface ExplainedRequest {
  readonly sourceId: number;
  /** Undefined: the request has none. */
  readonly pasid: number | undefined;
  readonly address: bigint;
}

/** Where a request ends; `page` undefined: it is refused. */
export interface Explanation {
  readonly lines: readonly string[];
  readonly page: number | undefined;
  /** The address that the second stage was asked for last, where there is one: in a guest's terms, its physical address. */
  readonly secondStageAddress: bigint | undefined;
}

const hexOf = (value: number | bigint): string => `0x${value.toString(16)}`;
const pageAddress = (page: number): string => hexOf(BigInt(page) << 12n);

/** The way of one request. */
class Walk {
  readonly lines: string[] = [];
  secondStageAddress: bigint | undefined = undefined;
  private readonly memory: PhysicalMemory;

  constructor(memory: PhysicalMemory) {
    this.memory = memory;
  }

  say(text: string): undefined {
    this.lines.push(text);
    return undefined;
  }

  /** Reads a word of a table, and tells it with its fields; undefined where no memory is there. */
  word(of: Word, page: number, index: number, indent = ''): Entry | undefined {
    const where = `${indent}${of.name} at ${pageAddress(page)}[${index}]`;
    if (!this.memory.read(page, index, true)) return this.say(`${where}: no memory is there`);
    const [lo = 0, hi = 0] = this.memory.entry;
    const values = new Map(Object.entries(of.fields).map(([name, one]) => [name, one.get(lo, hi)]));
    const shown = [...values]
      .filter(([, value]) => value !== 0)
      .map(([name, value]) =>
        isPointer(name) ? `${name}=${pageAddress(value)}` : `${name}=${value}`,
      );
    const bits = hi.toString(16).padStart(8, '0') + lo.toString(16).padStart(8, '0');
    this.say(`${where} = 0x${bits}: ${shown.join(' ') || 'all 0'}`);
    return { get: (name) => values.get(name) ?? 0 };
  }
}

const isPointer = (name: string): boolean =>
  name.endsWith('PTR') || name === 'CTP' || name === 'ADDR';

export function explainRequest(unit: ExplainedUnit, request: ExplainedRequest): Explanation {
  const walk = new Walk(unit.memory);
  const page = unit.isScalable ? scalable(walk, unit, request) : legacy(walk, unit, request);
  return { lines: walk.lines, page, secondStageAddress: walk.secondStageAddress };
}

function legacy(
  walk: Walk,
  { root }: ExplainedUnit,
  request: ExplainedRequest,
): number | undefined {
  const { sourceId, pasid, address } = request;
  if (root === undefined) return walk.say('translation is off: every address is physical');
  if (pasid !== undefined) return walk.say('requests with PASID are refused in legacy mode');
  const entry = walk.word(ROOT, root, (sourceId >>> 8) * 2);
  if (entry === undefined) return undefined;
  if (entry.get('P') === 0) return walk.say('refused: the root entry is not present');
  const index = (sourceId & 0xff) * 2;
  const low = walk.word(CONTEXT_LOW, entry.get('CTP'), index);
  const high = walk.word(CONTEXT_HIGH, entry.get('CTP'), index + 1);
  if (low === undefined || high === undefined) return undefined;
  if (low.get('P') === 0)
    return walk.say('refused: the context entry is not present, so the device is blocked');
  if (low.get('TT') === 2) return passThrough(walk, address);
  return secondStage(walk, low.get('SSPTPTR'), high.get('AW') + 2, address, '');
}

function scalable(
  walk: Walk,
  { root }: ExplainedUnit,
  request: ExplainedRequest,
): number | undefined {
  const { sourceId, address } = request;
  if (root === undefined) return walk.say('translation is off: every address is physical');
  const entry = walk.word(ROOT, root, (sourceId >>> 8) * 2 + ((sourceId >>> 7) & 1));
  if (entry === undefined) return undefined;
  if (entry.get('P') === 0) return walk.say('refused: the root entry is not present');
  const index = (sourceId & 0x7f) * 4;
  const low = walk.word(SCALABLE_CONTEXT_LOW, entry.get('CTP'), index);
  const high = walk.word(SCALABLE_CONTEXT_HIGH, entry.get('CTP'), index + 1);
  if (low === undefined || high === undefined) return undefined;
  if (low.get('P') === 0) return walk.say('refused: the context entry is not present');
  const pasid = request.pasid ?? high.get('RID_PASID');
  if (request.pasid !== undefined && low.get('PASIDE') === 0)
    return walk.say('refused: the context entry does not allow requests with PASID');
  if (request.pasid === high.get('RID_PASID'))
    return walk.say(`refused: PASID ${pasid} is the one for requests without`);
  if (pasid >>> 6 >= 2 ** (low.get('PDTS') + 7))
    return walk.say(`refused: PASID ${pasid} is beyond the directory`);
  const directory = low.get('PASIDDIRPTR') + (pasid >>> 15);
  const slot = walk.word(PASID_DIRECTORY, directory, (pasid >>> 6) & 511);
  if (slot === undefined) return undefined;
  if (slot.get('P') === 0) return walk.say('refused: the PASID directory entry is not present');
  const words = PASID_WORDS.map((word, i) =>
    walk.word(word, slot.get('SMPTBLPTR'), (pasid & 63) * 8 + i),
  );
  const [first, , third] = words;
  if (first === undefined || third === undefined) return undefined;
  if (first.get('P') === 0)
    return walk.say('refused: the PASID entry is not present, so the device is blocked');
  const kind = first.get('PGTT');
  walk.say(`PGTT ${kind}: ${kinds[kind] ?? 'reserved'}`);
  const [table, levels] = [first.get('SSPTPTR'), first.get('AW') + 2];
  if (kind === Pgtt.PASS_THROUGH) return passThrough(walk, address);
  if (kind === Pgtt.SECOND) return secondStage(walk, table, levels, address, '');
  const below = (at: bigint): number | undefined =>
    kind === Pgtt.NESTED ? secondStage(walk, table, levels, at, '    ') : Number(at >> 12n);
  if (kind !== Pgtt.FIRST && kind !== Pgtt.NESTED) return undefined;
  return firstStage(walk, third.get('FSPTPTR'), third.get('FSPM') + 4, address, below);
}

function passThrough(walk: Walk, address: bigint): number {
  walk.say(`ends at ${hexOf(address)}: the address is physical`);
  return Number(address >> 12n);
}

const indexAt = (address: bigint, level: number): number =>
  Number((address >> BigInt(12 + PAGE_BITS * level)) & 511n);

/** The page that a leaf of a level, which begins at `page`, has for an address. */
const inLeaf = (page: number, address: bigint, level: number): number => {
  const pages = 2 ** (PAGE_BITS * level);
  return Math.floor(page / pages) * pages + (Number((address >> 12n) & 0xfff_ffff_ffffn) % pages);
};

function secondStage(
  walk: Walk,
  top: number,
  levels: number,
  address: bigint,
  indent: string,
): number | undefined {
  walk.secondStageAddress = address;
  let table = top;
  const allows = { readable: 1, writable: 1 };
  for (let level = levels - 1; level >= 0; level--) {
    const of = { name: `second stage, level ${level + 1}`, fields: SECOND_STAGE.fields };
    const entry = walk.word(of, table, indexAt(address, level), indent);
    if (entry === undefined) return undefined;
    if (entry.get('R') === 0 && entry.get('W') === 0)
      return walk.say(`${indent}refused: ${hexOf(address)} is not mapped in the second stage`);
    allows.readable &= entry.get('R');
    allows.writable &= entry.get('W');
    if (level > 0 && entry.get('PS') === 0) {
      table = entry.get('ADDR');
      continue;
    }
    if (allows.readable + allows.writable === 0)
      return walk.say(`${indent}refused: the entries together allow nothing`);
    const page = inLeaf(entry.get('ADDR'), address, level);
    walk.say(`${indent}${rights(allows)} ends at ${pageAddress(page)}`);
    return page;
  }
  return undefined;
}

/** What every entry on the way allows. */
const rights = ({ readable, writable }: { readable: number; writable: number }): string => {
  if (readable !== 0) return writable === 0 ? 'for reading only:' : 'for reading and writing:';
  return 'for writing only:';
};

/** `below`: where a table or a page of the first stage is in memory. */
function firstStage(
  walk: Walk,
  top: number,
  levels: number,
  address: bigint,
  below: (at: bigint) => number | undefined,
): number | undefined {
  let table = BigInt(top) << 12n;
  const allows = { readable: 1, writable: 1, users: 1 };
  for (let level = levels - 1; level >= 0; level--) {
    const at = below(table);
    if (at === undefined) return undefined;
    const of = { name: `first stage, level ${level + 1}`, fields: FIRST_STAGE.fields };
    const entry = walk.word(of, at, indexAt(address, level));
    if (entry === undefined) return undefined;
    if (entry.get('P') === 0)
      return walk.say(`refused: ${hexOf(address)} is not mapped in the first stage`);
    allows.writable &= entry.get('RW');
    allows.users &= entry.get('US');
    if (level > 0 && entry.get('PS') === 0) {
      table = BigInt(entry.get('ADDR')) << 12n;
      continue;
    }
    const page = inLeaf(entry.get('ADDR'), address, level);
    const whose = allows.users === 0 ? "supervisors' only, " : '';
    walk.say(`${whose}${rights(allows)} ends at ${pageAddress(page)}`);
    return below(BigInt(page) << 12n);
  }
  return undefined;
}
