// SPDX-License-Identifier: Apache-2.0
import { afterAll, describe, expect, it } from 'vitest';
import {
  type Comparison,
  compare,
  describeDifference,
  equalList,
  loadRecordings,
  writeEqualList,
} from './recordings.ts';
import { summary } from './summary.ts';

const recordings = loadRecordings();
const mustBeEqual = new Set(equalList());
const done: Comparison[] = [];

/** What the engine says of a call that Linux has and it has not; everything else that differs is a bug. */
const NOT_BUILT = /not built yet/;

const play = (recording: (typeof recordings)[number]): Comparison => {
  const comparison = compare(recording);
  done.push(comparison);
  return comparison;
};

describe('the recordings of Linux', () => {
  it('are there, with every script that must be equal', () => {
    const known = new Set(recordings.map(({ name }) => name));
    expect([...mustBeEqual].filter((name) => !known.has(name))).toEqual([]);
    expect(recordings.length).toBeGreaterThanOrEqual(mustBeEqual.size);
    expect(mustBeEqual.size).toBeGreaterThan(0);
  });

  it.each(recordings.filter(({ name }) => mustBeEqual.has(name)))(
    'are answered alike in every call of $name',
    (recording) => {
      const { differences } = play(recording);
      expect(differences.slice(0, 1).map(describeDifference)).toEqual([]);
    },
  );

  it('can be played to their end, and leave nothing pinned or open', () => {
    for (const recording of recordings) if (!mustBeEqual.has(recording.name)) play(recording);
    expect(done).toHaveLength(recordings.length);
    const leaking = done.filter(({ left }) => left.pins || left.contexts);
    expect(leaking.map(({ name, left }) => ({ name, ...left }))).toEqual([]);
  });

  it('first differ, where they do, in a call that says it is not built yet', () => {
    const firsts = done.flatMap(({ differences }) => differences.slice(0, 1));
    const unexplained = firsts.filter(({ why }) => !NOT_BUILT.test(why));
    expect(unexplained.map(describeDifference)).toEqual([]);
  });

  afterAll(() => {
    if (done.length < recordings.length) return; // only some were asked for
    const equal = done.filter(({ differences }) => differences.length === 0);
    const fresh = equal.filter(({ name }) => !mustBeEqual.has(name)).map(({ name }) => name);
    const { env } = process;
    console.log(summary(done, fresh, Number(env['GOLDEN_SHOW'] ?? 0)));
    if (env['GOLDEN_UPDATE']) writeEqualList([...new Set([...mustBeEqual, ...fresh])]);
  });
});
