// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import { cannotRun, client, harness, supervise } from './support.ts';

/** Starts the hanging client in a process group of its own, as a shell starts a job. */
async function started(): Promise<{ pid: number; end: Promise<{ code: number; output: string }> }> {
  const child = spawn(process.execPath, [harness, '{}', client('hang')], {
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  const ready = new Promise<void>((resolve) => {
    child.stdout.on('data', (data: Buffer) => {
      output += data.toString();
      if (output.includes('ready')) resolve();
    });
  });
  await ready;
  const end = once(child, 'close').then(([code]) => ({ code: code as number, output }));
  return { pid: child.pid ?? 0, end };
}

describe.skipIf(cannotRun)(`signals from outside ${cannotRun}`, () => {
  test('Ctrl-C reaches the program, which decides; the supervisor stays until it ends', async () => {
    const { pid, end } = await started();
    process.kill(-pid, 'SIGINT');
    expect(await end).toEqual({ code: 12, output: 'ready\ngot 2\n' });
  });

  test.each([
    ['SIGTERM', 15],
    ['SIGHUP', 1],
  ] as const)('%s sent to the supervisor is passed on', async (signal, number) => {
    const { pid, end } = await started();
    process.kill(pid, signal);
    expect(await end).toEqual({ code: 10 + number, output: `ready\ngot ${number}\n` });
  });

  test('a bug in the engine ends the run loudly, and the clients with it', () => {
    const { status, stderr, stdout } = supervise([client('hang'), '0x3bf6']);
    expect(status).toBe(1);
    expect(stderr).toContain('a bug of the test device');
    expect(stdout).not.toContain('ready');
  });
});
