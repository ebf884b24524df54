// SPDX-License-Identifier: Apache-2.0
/** The example of page faults in two languages: one program, so one output; and the life of each request in the trace. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { cannotRun, launcher, outcome } from './support.ts';

const folder = fileURLToPath(new URL('../../examples/page_fault/', import.meta.url));
const temporary = mkdtempSync(join(tmpdir(), 'iommulator-page-fault-'));
afterAll(() => rmSync(temporary, { recursive: true }));

/** The output that the README shows. */
const shown = /```text\n([^]*?)```/.exec(readFileSync(join(folder, 'README.md'), 'utf8'))?.[1];
const run = (machine: string, ...command: string[]) =>
  outcome(launcher, ['run', '--machine', machine, '--strace', ...command]);

/** What the device says and hears. */
const LIFE = [
  'page request 0000:00:02.0 read 0x200000: group 5, last',
  'page response 0000:00:02.0: group 5, SUCCESS',
  'page request 0000:00:02.0 write 0x300000: group 6, last',
  'page response 0000:00:02.0: group 6, INVALID',
  'page request 0000:00:02.0 write 0x300000: group 7, last',
  'page response 0000:00:02.0: group 7, INVALID',
];
const lifeIn = (trace: string): string[] =>
  trace
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => /^page re(quest|sponse)/.test(line));

describe.skipIf(cannotRun)(`examples/page_fault ${cannotRun}`, () => {
  const program = (): string => {
    const path = join(temporary, 'page_fault');
    const flags = ['-O2', '-Wall', '-Wextra', '-Werror'];
    execFileSync('gcc', [...flags, '-o', path, join(folder, 'page_fault.c')]);
    return path;
  };

  test('in C prints what the README shows, and the trace has the life of each request', () => {
    const { status, stdout, stderr } = run('page-faults', program());
    expect({ status, stdout }).toEqual({ status: 0, stdout: shown });
    expect(lifeIn(stderr)).toEqual(LIFE);
  });

  test('in Node does the same', () => {
    const { status, stdout, stderr } = run('page-faults', 'node', join(folder, 'page_fault.mjs'));
    expect({ status, stdout }).toEqual({ status: 0, stdout: shown });
    expect(lifeIn(stderr)).toEqual(LIFE);
  });

  test('behind VT-d prints the same: requests and answers go through its queues', () => {
    const { status, stdout, stderr } = run('vtd-page-faults', program());
    expect({ status, stdout }).toEqual({ status: 0, stdout: shown });
    expect(lifeIn(stderr)).toEqual(LIFE);
  });

  test('says what to do where the device cannot fault', () => {
    const { status, stderr } = run('edu', program());
    expect(status).toBe(1);
    expect(stderr).toContain('Try: iommulator run --machine page-faults');
  });
});
