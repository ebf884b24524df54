// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from 'vitest';
import { cannotRun, client, supervise } from './support.ts';

describe.skipIf(cannotRun)(`signals ${cannotRun}`, () => {
  test('20,000 calls under a 5 kHz signal return what they return without', () => {
    const quiet = supervise([client('signals'), '20000']);
    const disturbed = supervise([client('signals'), '20000', '200']);
    expect(quiet.stdout).toBe('wrong 0\n');
    expect(disturbed.stdout).toBe(quiet.stdout);
    expect(disturbed.status).toBe(0);
  });
});
