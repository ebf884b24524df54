// SPDX-License-Identifier: Apache-2.0
/** The example of nested translation in two languages: one program, so one output, on true tables and caches. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { cannotRun, launcher, outcome } from './support.ts';

const folder = fileURLToPath(new URL('../../examples/nested/', import.meta.url));
const temporary = mkdtempSync(join(tmpdir(), 'iommulator-nested-'));
afterAll(() => rmSync(temporary, { recursive: true }));

/** The output that the README shows. */
const shown = /```text\n([^]*?)```/.exec(readFileSync(join(folder, 'README.md'), 'utf8'))?.[1];
const run = (machine: string, ...command: string[]) =>
  outcome(launcher, ['run', '--machine', machine, '--strace', ...command]);

describe.skipIf(cannotRun)(`examples/nested ${cannotRun}`, () => {
  const program = (): string => {
    const path = join(temporary, 'nested');
    const flags = ['-O2', '-Wall', '-Wextra', '-Werror'];
    execFileSync('gcc', [...flags, '-o', path, join(folder, 'nested.c')]);
    return path;
  };

  test('in C prints what the README shows', () => {
    expect(run('vtd', program())).toMatchObject({ status: 0, stdout: shown });
  });

  test('in Node prints the same, and the trace shows the stale entry and its end', () => {
    const { status, stdout, stderr } = run('vtd', 'node', join(folder, 'nested.mjs'));
    expect({ status, stdout }).toEqual({ status: 0, stdout: shown });
    const reads = [
      ...stderr.matchAll(/dma 0000:00:02\.0 read 0x200000\+16(?: -> frame (\w+))?: (\w+)/g),
    ];
    const [first, stale, fresh, refused] = reads.map(([, frame, result]) => ({ frame, result }));
    expect(stale).toEqual(first);
    expect(fresh).toMatchObject({ result: 'ok' });
    expect(fresh?.frame).not.toBe(first?.frame);
    expect(refused).toMatchObject({ result: 'refused' });
  });

  test('with --explain, the refused read is walked through both stages', () => {
    const { stdout, stderr } = outcome(launcher, [
      'run',
      '--machine',
      'vtd',
      '--explain',
      program(),
    ]);
    expect(stdout).toBe(shown);
    const lines = stderr.trimEnd().split('\n');
    expect(lines[0]).toBe('dma 0000:00:02.0 read 0x200000+16: refused (0x200000 is not mapped)');
    expect(lines.filter((line) => line.includes('    first stage, level'))).toHaveLength(4);
    // Each table of the guest, and five levels below each.
    expect(lines.filter((line) => line.includes('        second stage, level'))).toHaveLength(20);
    expect(lines.at(-2)).toBe('    refused: 0x200000 is not mapped in the first stage');
    expect(lines.at(-1)).toMatch(/a guest's table on 3, IOAS 2: the map at \[0x100000, 0x10ffff\]/);
  });

  test('says what to do where the IOMMU does not nest', () => {
    const { status, stderr } = run('edu', program());
    expect(status).toBe(1);
    expect(stderr).toContain('Try: iommulator run --machine vtd');
  });
});
