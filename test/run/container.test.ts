// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { cannotRun, client, harness, outcome } from './support.ts';

const inContainer = (...command: string[]) =>
  outcome(client('container'), [
    ...command.slice(0, -1).filter((word) => word === 'strict'),
    process.execPath,
    harness,
    '{}',
    command.at(-1) ?? '',
  ]);

describe.skipIf(cannotRun)(`under Docker's default filter ${cannotRun}`, () => {
  test('a program is served; only duplicates leave our range of numbers', () => {
    const expected = readFileSync(new URL('clients/surface.expected', import.meta.url), 'utf8');
    expect(inContainer(client('surface')).stdout).toBe(expected.replace('dups: 1', 'dups: 0'));
  });

  test('without process_vm_readv one sentence says what to allow', () => {
    const { status, stderr } = inContainer('strict', '/bin/true');
    expect(status).toBe(1);
    expect(stderr).toContain(
      'process_vm_readv is not permitted here: allow it, in a container with --cap-add=SYS_PTRACE',
    );
  });
});
