// SPDX-License-Identifier: Apache-2.0
/**
 * Page tables in process, beside the goals of docs (a call <= 1 us, <= 20 ns an entry in batches of 256, a 4-level walk
 * <= 70 ns). Run: `node bench/generic_pt.bench.ts` after a build, or through `npm run bench`. Two shared cores: read
 * the figures as ratios.
 */
import { amdv1, amdv1Mock } from '../dist/src/generic_pt/fmt/amdv1.js';
import type { TableFormat } from '../dist/src/generic_pt/format.js';
import { IotlbGather } from '../dist/src/generic_pt/gather.js';
import { map } from '../dist/src/generic_pt/map.js';
import { Table } from '../dist/src/generic_pt/table.js';
import { unmap } from '../dist/src/generic_pt/unmap.js';
import { translate } from '../dist/src/generic_pt/walk.js';
import { MockPagingDomain } from '../dist/src/drivers/mock/mock_domain.js';
import { Ram } from '../dist/src/memory/ram.js';

const RW = 3;
const ROUNDS = 7;

interface Row {
  readonly what: string;
  readonly ns: number;
  readonly goal?: number;
}
const rows: Row[] = [];

/** The best of several rounds: what is left is the code, not the neighbours. */
function measure(what: string, units: number, body: () => void, goal?: number): void {
  let best = Infinity;
  for (let round = 0; round < ROUNDS; round++) {
    const start = process.hrtime.bigint();
    body();
    best = Math.min(best, Number(process.hrtime.bigint() - start));
  }
  rows.push({ what, ns: best / units, ...(goal === undefined ? {} : { goal }) });
}

const must = (rc: number): void => {
  if (rc < 0) throw new Error(`errno ${-rc}`);
};

function table(format: TableFormat, topLevel: number): { table: Table; gather: IotlbGather } {
  const made = Table.create(format, new Ram(), { topLevel });
  if (typeof made === 'number') throw new Error(`no table: ${made}`);
  return { table: made, gather: new IotlbGather() };
}

function drain(t: Table, gather: IotlbGather): void {
  for (const frame of gather.tables) t.ram.free(frame);
  gather.reset();
}

/** Pages of 4 KiB at scattered places of 1 GiB; output addresses that fit no larger page. */
function calls(format: TableFormat, topLevel: number): void {
  const { table: t, gather } = table(format, topLevel);
  const count = 65536;
  const order = Array.from({ length: count }, (_, i) => ((i * 40503) % count) * 4);
  must(map(t, 0, count * 4, 2 ** 29, RW, gather)); // makes the tables; one 4 KiB page stays in each
  unmap(t, 0, count * 4, undefined);
  const oa = 2 ** 30 + 2;
  measure(`${format.name}: map call, 4 KiB`, count, () => {
    for (const at of order) must(map(t, at, 2, oa + at, RW, gather));
    for (const at of order) unmap(t, at, 2, undefined);
  });
  const both = rows.pop()?.ns ?? 0;
  measure(`${format.name}: unmap call, 4 KiB (with the map before it: ${both.toFixed(0)} ns)`, count, () => {
    for (const at of order) unmap(t, at, 2, undefined);
  });
  rows.pop();
  rows.push({ what: `${format.name}: map call + unmap call, 4 KiB`, ns: both, goal: 2000 });
}

/** 256 pages of 4 KiB at a time, never larger ones. */
function batches(format: TableFormat, topLevel: number): void {
  const { table: t, gather } = table(format, topLevel);
  const batch = 512;
  const count = 256;
  const oa = 2 ** 30 + 2;
  const timed = { map: Infinity, unmap: Infinity };
  for (let round = 0; round < ROUNDS * 3; round++) {
    const start = process.hrtime.bigint();
    for (let i = 0; i < count; i++) must(map(t, i * batch, batch, oa + i * batch, RW, gather));
    const middle = process.hrtime.bigint();
    for (let i = 0; i < count; i++) unmap(t, i * batch, batch, gather);
    const end = process.hrtime.bigint();
    drain(t, gather);
    timed.map = Math.min(timed.map, Number(middle - start));
    timed.unmap = Math.min(timed.unmap, Number(end - middle));
  }
  const entries = count * 256;
  rows.push({ what: `${format.name}: map, ns an entry of 4 KiB in batches of 256`, ns: timed.map / entries, goal: 20 });
  rows.push({ what: `${format.name}: unmap, the same`, ns: timed.unmap / entries, goal: 20 });
}

function walks(format: TableFormat, topLevel: number, size: number): void {
  const { table: t, gather } = table(format, topLevel);
  const frames = size / 2048;
  // Misaligned on purpose: 4 KiB entries, so that walks go all the way down.
  must(map(t, 0, frames, 2 ** 30 + 2, RW, gather));
  const count = 1 << 20;
  const at = Float64Array.from({ length: count }, (_, i) => ((i * 7919) % (frames / 2)) * 2);
  let sum = 0;
  measure(
    `${format.name}: walk of ${topLevel + 1} levels, over ${size / 2 ** 20} MiB`,
    count,
    () => {
      for (let i = 0; i < count; i++) sum += translate(t, at[i] ?? 0);
    },
    70,
  );
  if (sum < 0) throw new Error('not mapped');
}

/** All formats in one process, as they are in use: the walker must not care. */
walks(amdv1, 3, 64 * 2 ** 20);
walks(amdv1Mock, 3, 64 * 2 ** 20);
walks(amdv1, 3, 2 ** 20);
calls(amdv1, 3);
calls(amdv1Mock, 2);
batches(amdv1, 3);
batches(amdv1Mock, 2);

const domain = MockPagingDomain.create(new Ram(), 0, true);
if (typeof domain === 'number') throw new Error('no domain');
for (const [what, iova, frame] of [
  ['4 KiB', 0x2000_0000n, 2 ** 30],
  ['2 MiB aligned', 0x2000_0000n, 2 ** 30],
  ['256 MiB aligned', 0x2000_0000n, 2 ** 30],
  ['256 MiB in pages of 4 KiB', 0x2000_0000n, 2 ** 30 + 2],
] as const) {
  const frames = what.startsWith('4 ') ? 2 : what.startsWith('2 ') ? 1024 : 131072;
  const repeat = what.endsWith('4 KiB') && frames > 2 ? 1 : 256;
  let [mapNs, unmapNs] = [Infinity, Infinity];
  for (let round = 0; round < 40; round++) {
    let [m, u] = [0, 0];
    for (let i = 0; i < repeat; i++) {
      const start = process.hrtime.bigint();
      must(domain.map(iova, frame, frames, RW));
      const middle = process.hrtime.bigint();
      if (domain.unmap(iova, frames) !== frames) throw new Error('not unmapped');
      m += Number(middle - start);
      u += Number(process.hrtime.bigint() - middle);
    }
    mapNs = Math.min(mapNs, m / repeat);
    unmapNs = Math.min(unmapNs, u / repeat);
  }
  rows.push({ what: `mock domain: map ${what}, tables made (clock read included)`, ns: mapNs });
  rows.push({ what: `mock domain: unmap ${what}, tables freed`, ns: unmapNs });
}

for (const { what, ns, goal } of rows) {
  const verdict = goal === undefined ? '' : `goal ${goal}${ns <= goal ? '' : '  MISSED'}`;
  console.log(`${ns.toFixed(ns < 100 ? 1 : 0).padStart(10)} ns  ${what.padEnd(70)} ${verdict}`);
}
