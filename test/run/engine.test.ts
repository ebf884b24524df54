// SPDX-License-Identifier: Apache-2.0
/** What the issue of `run` promises, seen from real programs with the real engine behind bin/iommulator. */
import { describe, expect, test } from 'vitest';
import { cannotRun, client, launcher, outcome } from './support.ts';

const run = (scenario: string, ...options: string[]) =>
  outcome(launcher, ['run', ...options, '--', client('engine'), scenario]);

describe.skipIf(cannotRun)(`a program with the real engine ${cannotRun}`, () => {
  test('gets the same answers from 20,000 calls under a 5 kHz signal, and leaves the same objects', () => {
    const quiet = run('quiet storm', '--summary');
    const stormy = run('storm', '--summary');
    const left = (text: string) =>
      /left open:.*/s.exec(text)?.[0].replace(/process \d+/, 'process');
    expect(quiet.status).toBe(0);
    expect(stormy.stdout).toBe(quiet.stdout);
    expect(left(stormy.stderr)).toBe(left(quiet.stderr));
    expect(left(quiet.stderr)).toContain('IOAS');
    expect(Number(/(\d+) signals/.exec(stormy.stderr)?.[1])).toBeGreaterThan(100);
  });

  test('finds the maps of a forked child that has ended, readable where they were pinned', () => {
    expect(run('orphan').stdout).toBe('pinned: 0 5a 5a; not pinned: -14; unmap: 4 pages\n');
  });

  test('holds pages and not addresses with a pin', () => {
    expect(run('identity').stdout).toBe('through the pin: 1, at the address: 2\n');
  });

  test('shares a descriptor with another process, each with its own memory', () => {
    expect(run('shared').stdout).toBe('cp\n');
  });
});
