// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { isEnding, processOf } from './process_end.ts';

describe('a process', () => {
  it('that runs is not ending', () => {
    expect(isEnding(process.pid)).toBe(false);
    expect(processOf(process.pid)).toBe(process.pid);
  });

  it('that is gone, or that nobody has waited for yet, is ending', async () => {
    // A shell that replaces itself never waits for its child, which so remains as a zombie.
    const shell = spawn('sh', ['-c', 'true & echo $!; exec cat'], {
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    const [line] = (await once(shell.stdout, 'data')) as [Buffer];
    const zombie = Number(String(line));
    while (!isEnding(zombie)) await new Promise((resolve) => setImmediate(resolve));
    shell.stdin.end();
    await once(shell, 'close');
    expect(isEnding(shell.pid ?? 0)).toBe(true);
  });
});
