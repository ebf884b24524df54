// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from 'vitest';
import { cannotRun, client, ending, story, supervise } from './support.ts';

// `mark` is an open that the client makes between its steps: what was closed before it must be released before it.
const stories = {
  close: 'open release mark',
  close_range: 'open release mark',
  'dup2 over': 'open release mark',
  thread: 'open release mark',
  dup: 'open mark release mark',
  fork: 'open mark release mark',
  exec: 'open open release mark release mark',
  killed: 'open open release mark release mark',
  'in flight': 'open mark release mark',
  'in flight dropped': 'open mark release mark',
  reopened: 'open mark release mark',
};

describe.skipIf(cannotRun)(`the last close of a file ${cannotRun}`, () => {
  test.each(Object.entries(stories))('is seen at once: %s', (step, expected) => {
    const { status, events } = supervise([client('closes'), step]);
    expect(status).toBe(0);
    expect(story(events)).toBe(expected);
    expect(ending(events).leakedDescriptors).toBe(0);
  });
});
