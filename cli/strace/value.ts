// SPDX-License-Identifier: Apache-2.0
import type { CType, Show } from '../../src/abi/struct.ts';

const hexText = (value: number | bigint): string =>
  value === 0 || value === 0n ? '0' : `0x${value.toString(16)}`;

/** The longest prefix, ending in `_`, that all names share: `IOMMU_IOAS_MAP_`. */
function commonPrefix(names: readonly string[]): string {
  let prefix = names[0] ?? '';
  for (const name of names) while (!name.startsWith(prefix)) prefix = prefix.slice(0, -1);
  return prefix.slice(0, prefix.lastIndexOf('_') + 1);
}

/** A number that no name covers, marked as strace does: `0x10 /* IOMMU_IOAS_MAP_??? *\/`. */
function unknown(value: number | bigint, names: Readonly<Record<string, number>>): string {
  const prefix = commonPrefix(Object.keys(names));
  return prefix === '' ? hexText(value) : `${hexText(value)} /* ${prefix}??? */`;
}

/** Flag bits by name: `A|B`, `A|0x80`, `0`. A name whose value is 0 stands only for no flags at all. */
export function flagsText(value: number | bigint, names: Readonly<Record<string, number>>): string {
  let rest = BigInt(value);
  const parts: string[] = [];
  for (const [name, number] of Object.entries(names)) {
    const bits = BigInt(number);
    if (bits === 0n ? value === 0 || value === 0n : (rest & bits) === bits) {
      parts.push(name);
      rest &= ~bits;
    }
  }
  if (rest !== 0n) parts.push(parts.length === 0 ? unknown(rest, names) : hexText(rest));
  return parts.length === 0 ? '0' : parts.join('|');
}

/** One of several numbers by name, or the number with the family of names it is missing from. */
export function enumText(value: number | bigint, names: Readonly<Record<string, number>>): string {
  const wanted = Number(value);
  const found = Object.entries(names).find(([, number]) => number === wanted);
  return found ? found[0] : unknown(value, names);
}

function scalarText(value: number | bigint, show: Show): string {
  switch (show.as) {
    case 'hex':
      return hexText(value);
    case 'pointer':
      return BigInt(value) === 0n ? 'NULL' : hexText(value);
    case 'fd':
      return `${Number(value) | 0}`;
    case 'flags':
      return flagsText(value, show.names);
    case 'enum':
      return enumText(value, show.names);
    case 'reserved':
      return hexText(value);
    case 'dec':
    case 'id':
      return `${value}`;
  }
}

const isScalar = (value: unknown): value is number | bigint =>
  typeof value === 'number' || typeof value === 'bigint';

/** The text of a value of a type that is not a structure: a number, or an array of numbers. */
export function valueText(type: CType<unknown>, value: unknown): string {
  if (isScalar(value)) return scalarText(value, type.show);
  if (Array.isArray(value)) {
    return `[${value.map((item) => valueText(type, item)).join(', ')}]`;
  }
  throw new TypeError(`${type.cName} is neither a number nor an array of numbers`);
}

/** Whether every number in the value is zero. */
export function isZero(value: unknown): boolean {
  if (isScalar(value)) return value === 0 || value === 0n;
  return Array.isArray(value) && value.every(isZero);
}
