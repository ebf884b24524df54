// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from 'vitest';
import { cannotRun, client, supervise } from './support.ts';

// Each way of giving up a pinned page that holds 0x5a; the answer is what the engine finds in the page afterwards.
const ways = {
  munmap: '5a',
  'map over': '5a',
  mremap: '5a',
  dontneed: '5a',
  free: '5a',
  brk: '5a',
  shmdt: '5a',
  'shared unmap': '5a',
  ftruncate: '5a',
  truncate: '5a',
  punch: '5a',
  'parent exits': '5a',
  'parent execs': '5a',
  // A kill leaves no moment to save anything: the page is lost, and the engine hears of it.
  'parent is killed': 'ffffffff',
  // Calls that fail and other processes' address spaces take nothing: the page stays the client's, which writes 0x5b.
  misaligned: '5b',
  vfork: '5b',
  fork: '5b',
  'failed exec': '5b',
  'anonymous shared': '5c',
};

describe.skipIf(cannotRun)(`a pinned page ${cannotRun}`, () => {
  test.each(Object.entries(ways))('is kept: %s', (how, expected) => {
    const { stdout } = supervise([client('memory'), how]);
    expect(stdout).toBe(`${expected}\n`);
  });

  test('is not copied when the last client exits', () => {
    const { events } = supervise([client('memory'), 'misaligned']);
    expect(events.filter(({ release }) => release !== undefined)).toEqual([]);
    expect(events.some(({ gone }) => gone === 'mm')).toBe(true);
  });

  test('is kept at exit under fast, too', () => {
    expect(supervise([client('memory'), 'parent exits'], { fast: true }).stdout).toBe('5a\n');
  });
});
