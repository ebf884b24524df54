// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from 'vitest';
import { cannotRun, client, ending, story, supervise } from './support.ts';

const count = (text: string, word: string): number => text.split(word).length - 1;

describe.skipIf(cannotRun)(`clients killed at any moment ${cannotRun}`, () => {
  test.each([1, 2, 3])(
    'leave no open file, address space or descriptor behind (seed %i)',
    (seed) => {
      const { status, events } = supervise([client('chaos'), String(seed), '40']);
      const text = story(events);
      expect(status).toBe(0);
      expect(count(text, 'open')).toBeGreaterThan(20);
      // Every open that was delivered or not, and every file that an ioctl made, is released once.
      const made = events.filter(({ released }) => released === 'anon_inode:[test]').length;
      expect(count(text, 'release') - made).toBe(count(text, 'open'));
      expect(ending(events).leakedDescriptors).toBe(0);
    },
  );
});
