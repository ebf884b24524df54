// SPDX-License-Identifier: Apache-2.0
/** `run --check` with guests' tables: a device that lies is told of, and a guest that does as it likes with its own memory is not. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { writeHeaders } from './abi_headers.ts';
import { cannotRun, launcher, outcome } from './support.ts';

const folder = mkdtempSync(join(tmpdir(), 'iommulator-check-nested-'));
afterAll(() => rmSync(folder, { recursive: true }));

const build = (source: string, name: string): string => {
  const path = fileURLToPath(new URL(source, import.meta.url));
  const program = join(folder, name);
  execFileSync('gcc', ['-O1', '-w', '-pthread', '-I', folder, '-o', program, path]);
  return program;
};
const check = (machine: string, ...command: string[]) =>
  outcome(launcher, ['run', '--machine', machine, '--check', '--', ...command]);

describe.skipIf(cannotRun)(`a guest's table under run --check ${cannotRun}`, () => {
  let client = '';
  beforeAll(() => {
    writeHeaders(folder);
    client = build('clients/stale_nested.c', 'stale_nested');
  });

  test('examples/nested uses a stale entry before it invalidates, and is not blamed', () => {
    const { stdout, stderr, status } = check(
      'vtd',
      build('../../examples/nested/nested.c', 'nested'),
    );
    expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
    expect(stdout).toContain('both destroyed');
  });

  test('a guest that changes its table all the time is not blamed', () => {
    const { stdout, stderr, status } = check('vtd-page-faults', client);
    expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
    expect(stdout).toBe('done: 200 of 200\n');
  });

  test('a device that has not forgotten what the guest invalidated is told of, at its DMA', () => {
    const { stdout, stderr, status } = check('vtd-page-faults', client, 'lie');
    expect(stdout).toBe('mapped: state 3\nchanged: state 3\ninvalidated: state 3\n');
    expect(status).toBe(125);
    expect(stderr).toMatch(
      /^stale translation: write of 0x200000 by 0000:00:02\.0 reaches frame 0x\w+ by the device TLB, where the guest's tables have frame 0x\w+\. Last change: 0x200000-0x200fff invalidated by the guest \(IOMMU_HWPT_INVALIDATE\)\. Asked for, .* not done: device TLB, 0x200000-0x200fff of device 0x10\.\niommulator: 1 DMA was served/,
    );
  });
});
