// SPDX-License-Identifier: Apache-2.0
import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { cannotRun, ending, supervise } from './support.ts';

describe.skipIf(cannotRun)(`the exit status ${cannotRun}`, () => {
  const directory = mkdtempSync(join(tmpdir(), 'iommulator-exit-'));
  const file = (name: string, text: string, mode: number): string => {
    const path = join(directory, name);
    writeFileSync(path, text);
    chmodSync(path, mode);
    return path;
  };

  test.each([
    ['an exit code', ['sh', '-c', 'exit 42'], 42],
    ['a signal', ['sh', '-c', 'kill -9 $$'], 137],
    ['a program that is not found', ['no-such-program-anywhere'], 127],
    ['a path that is not found', ['/no/such/program'], 127],
    ['a directory', ['/tmp/'], 126],
    ['a file that is not executable', [file('data', '#!/bin/sh\n', 0o644)], 126],
    ['a missing interpreter', [file('orphan', '#!/no/such/shell\n', 0o755)], 127],
    ['a script without #!', [file('script', 'exit 3\n', 0o755)], 3],
    ['a script with #!', [file('script2', '#!/bin/sh\nexit 4\n', 0o755)], 4],
  ])('of %s is what a shell gives', (_, command, expected) => {
    expect(supervise(command).status).toBe(expected);
  });

  test('is the first process’s; the run waits for daemons it leaves behind', () => {
    const { status, stdout, events } = supervise([
      'sh',
      '-c',
      '(setsid sh -c "sleep 0.3; echo daemon") & exit 5',
    ]);
    expect(status).toBe(5);
    expect(stdout).toBe('daemon\n');
    expect(ending(events).leakedDescriptors).toBe(0);
  });

  test('a storm of short processes ends', () => {
    const storm = 'i=0; while [ $i -lt 100 ]; do (exit 0) & i=$((i+1)); done; wait; exit 6';
    expect(supervise(['sh', '-c', storm]).status).toBe(6);
  });
});
