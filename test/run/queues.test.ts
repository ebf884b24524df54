// SPDX-License-Identifier: Apache-2.0
/**
 * Descriptors of fault and event queues, and shared pages of /dev/iommu, in the hands of real processes. queues.expected is what
 * clients/queues.c prints on Linux 7.2: it was run there, as root, one scenario after the other.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { cannotRun, client, ending, supervise } from './support.ts';

const expected = new Map(
  readFileSync(new URL('clients/queues.expected', import.meta.url), 'utf8')
    .split(/^== /m)
    .slice(1)
    .map((part) => [part.slice(0, part.indexOf('\n')), part.slice(part.indexOf('\n') + 1)]),
);

describe.skipIf(cannotRun)(`queues and shared pages under run ${cannotRun}`, () => {
  test.each([
    ['faults', 'a fault queue is polled, read and written as on Linux'],
    [
      'threads',
      'a waiting thread is woken, and a reader that is killed leaves its faults to others',
    ],
    ['gone', 'a queue that is closed or left while somebody waits for it or owes it an answer'],
    ['both', 'two threads at one queue get each fault once'],
    ['events', 'an event queue is never writable, and marks what was lost'],
    ['maps', 'what is shared can be mapped, and is busy while any process maps it'],
    ['keeps', 'a map keeps the file open'],
  ])('%s: %s', (scenario) => {
    const { stdout, stderr, status, events } = supervise([client('queues', '-pthread'), scenario], {
      engine: true,
    });
    expect(stderr).toBe('');
    expect(stdout).toBe(expected.get(scenario));
    expect(status).toBe(0);
    expect(ending(events).leakedDescriptors).toBe(0);
  });
});
