// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from 'vitest';
import { cannotRun, client, supervise } from './support.ts';

describe.skipIf(cannotRun)(`two processes ${cannotRun}`, () => {
  test('use one descriptor at the same time', () => {
    const { stdout, status } = supervise([client('two'), 'calls']);
    expect(stdout).toBe('wrong 0\nwrong 0\n');
    expect(status).toBe(0);
  });

  test('a number that one of them closed is closed for it alone', () => {
    expect(supervise([client('two'), 'close']).stdout).toBe('child EBADF\nparent ok\n');
  });

  test('a number that another file took over is that file', () => {
    expect(supervise([client('two'), 'reuse']).stdout).toBe('ENOTTY\n');
  });

  test('/proc/PID/status shows what is charged, to its owner and to others', () => {
    expect(supervise([client('two'), 'status']).stdout).toBe('VmPin:\t      40 kB\n'.repeat(2));
  });
});
