// SPDX-License-Identifier: Apache-2.0
/**
 * The file `iommu/intel/BDF/domain_translation_struct` of debugfs: every leaf of the tables that a device's requests go through, with the
 * entries above it. Layout: Linux drivers/iommu/intel/debugfs.c.
 */
import { FRAME_SIZE } from '../../memory/frame.ts';
import type { Ram } from '../../memory/ram.ts';
import type { DeviceInfo } from './device_info.ts';
import type { Translation } from './translation.ts';

const COLUMNS = ['IOVA_PFN', 'PML5E', 'PML4E', 'PDPE', 'PDE', 'PTE'];
const ENTRIES = 512;
const PRESENT = 3;
const LARGE = 0x80;
const NO_ENTRY = '0x0000000000000000';

const hex = (value: number | bigint): string => value.toString(16);
const entryText = (lo: number, hi: number): string =>
  `0x${hex(hi).padStart(8, '0')}${hex(lo).padStart(8, '0')}`;

/** @param bdf `0000:00:02.0`. Empty where the device is blocked or passes through, as in Linux. */
export function domainTranslationStruct(bdf: string, info: DeviceInfo): string {
  const { translation } = info.slot;
  const found = translation && topOf(translation);
  if (!found) return '';
  const { address, levels } = found;
  const how = info.unit.caps.isScalable ? 'with pasid 0 ' : '';
  const [first = '', ...rest] = COLUMNS;
  const last = rest.pop() ?? '';
  const columns = [first.padEnd(17), ...rest.map((name) => name.padEnd(18)), last].join('\t');
  const lines = [`Device ${bdf} ${how}@0x${hex(address)}`, columns];
  walk(
    info.unit.memory.ram,
    address,
    levels,
    0n,
    Array.from({ length: 6 }, () => NO_ENTRY),
    lines,
  );
  return `${lines.join('\n')}\n`;
}

/** The table that Linux shows: of nested translation the second stage. */
function topOf(translation: Translation): { address: bigint; levels: number } | undefined {
  switch (translation.kind) {
    case 'first':
      return { address: translation.first.topAddress, levels: translation.aw + 2 };
    case 'second':
    case 'nested': {
      const { top, aw } = translation.second;
      return { address: BigInt(top) * BigInt(FRAME_SIZE), levels: aw + 2 };
    }
    case 'pass-through':
      return undefined;
  }
}

/** `path` holds the entries above by level, 5 to 1; `start` is the page number of the table's first address. */
function walk(
  ram: Ram,
  table: bigint,
  level: number,
  start: bigint,
  path: string[],
  lines: string[],
): void {
  const frame = Number(table / BigInt(FRAME_SIZE));
  if (!ram.has(frame) || level < 1) return;
  // A table is two frames of one run, and so in one piece.
  const lanes = ram.lanesOf(frame);
  const first = ram.laneOf(frame);
  const pages = 1n << BigInt(9 * (level - 1));
  for (let index = 0; index < ENTRIES; index++) {
    const lo = lanes[first + 2 * index] ?? 0;
    const hi = lanes[first + 2 * index + 1] ?? 0;
    if ((lo & PRESENT) === 0) continue;
    const page = start + BigInt(index) * pages;
    path[level] = entryText(lo, hi);
    if (level === 1 || (lo & LARGE) !== 0) lines.push(leafText(page, path));
    else walk(ram, addressOf(lo, hi), level - 1, page, path, lines);
    path[level] = NO_ENTRY;
  }
}

const addressOf = (lo: number, hi: number): bigint =>
  (BigInt(hi & 0xf_ffff) << 32n) | BigInt((lo & 0xffff_f000) >>> 0);

function leafText(page: bigint, path: readonly string[]): string {
  const [, pte = NO_ENTRY, pde = NO_ENTRY, ...above] = path;
  const shown = above.toReversed();
  if (pde !== NO_ENTRY) shown.push(pde);
  if (pde !== NO_ENTRY && pte !== NO_ENTRY) shown.push(pte);
  return `0x${hex(page).padStart(13, '0')} |\t${shown.join('\t')}`;
}
