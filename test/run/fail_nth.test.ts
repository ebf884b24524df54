// SPDX-License-Identifier: Apache-2.0
/** Failures on request, for real processes: fail-nth files, `--fail-nth` and `--check`. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { cannotRun, client, ending, hasPython, launcher, outcome, supervise } from './support.ts';

const example = fileURLToPath(new URL('../../examples/first_map/first_map.py', import.meta.url));
const run = (...options: string[]) =>
  outcome(launcher, ['run', ...options, '--', 'python3', example]);

describe.skipIf(cannotRun)(`failures on request ${cannotRun}`, () => {
  test('are asked for by fail-nth, each thread for itself, as with Linux', () => {
    const { stdout, status, events } = supervise([client('fail_nth')], { engine: true });
    const path = new URL('clients/fail_nth.expected', import.meta.url);
    expect(stdout).toBe(readFileSync(path, 'utf8'));
    expect(status).toBe(0);
    expect(ending(events).leakedDescriptors).toBe(0);
  });

  test.skipIf(!hasPython)('hit one call of the run, and the trace says which', () => {
    const { stderr } = run('--strace', '--fail-nth', '2', '--check');
    const lines = stderr.split('\n');
    const at = lines.indexOf('  fault point 2 (alloc) was made to fail');
    expect(lines[at - 1]).toMatch(/^ioctl\(.*\) = -1 ENOMEM \(.*\)$/);
    expect(lines.filter((line) => line.includes('was made to fail'))).toHaveLength(1);
  });

  test.skipIf(!hasPython)(
    'that are never reached are told, with how many points there were',
    () => {
      const whole = run();
      const { stderr, status, stdout } = run('--fail-nth', '1000');
      const told = /^iommulator: the run passed (\d+) fault points: number 1000 was not reached\n$/;
      expect(stderr).toMatch(told);
      expect(Number(told.exec(stderr)?.[1])).toBeGreaterThan(10);
      expect(status).toBe(0);
      const plain = (text: string) => text.replaceAll(/0x[0-9a-f]+/g, '');
      expect(plain(stdout)).toBe(plain(whole.stdout));
    },
  );
});
