// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from 'vitest';
import { cannotRun, client, launcher, outcome, supervise } from './support.ts';

/**
 * Lines in an order of their own: the launching shell may write the environment in another. Without privileges, a
 * filter is only for those who give up gaining them (NoNewPrivs); `_` is the shell's own note of what it executes.
 */
const comparable = (text: string): string[] =>
  text
    .split('\n')
    .filter((line) => !/^(NoNewPrivs|env _=)/.test(line))
    .toSorted();

describe.skipIf(cannotRun)(`what a program inherits ${cannotRun}`, () => {
  // Node alone would change signals, mask, limits, descriptors and their flags: the launcher must have undone it all.
  test('is the same under run: signals, mask, limits, descriptors, environment, directory', () => {
    const probe = client('environment');
    const direct = outcome(probe, ['prepare', probe, 'a', '']);
    const under = outcome(probe, ['prepare', launcher, 'run', '--', probe, 'a', '']);
    expect(comparable(under.stdout)).toEqual(comparable(direct.stdout));
    expect(direct.stdout).toContain('SigIgn:\t0000000000000803');
    expect(under.status).toBe(0);
  });

  test('an ignored SIGCHLD is passed on, and does not hide the end of the program from us', () => {
    const told = 'sigign=10000;sigblk=0;nofile=512;fds=0,1,2';
    process.env['IOMMULATOR_INHERITED'] = told;
    const { stdout, status } = supervise([client('environment')]);
    delete process.env['IOMMULATOR_INHERITED'];
    expect(status).toBe(0);
    expect(stdout).toContain('SigIgn:\t0000000000010000');
    expect(stdout).toContain('limit 7: 512 ');
    expect(stdout).not.toContain('IOMMULATOR');
  });
});
