// SPDX-License-Identifier: Apache-2.0
/** A device with ATS and PRI in the hands of a real process: page requests, and what it keeps of translations. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { writeHeaders } from './abi_headers.ts';
import { cannotRun, launcher, outcome } from './support.ts';

const MACHINE = `
name: faults
iommus:
  - name: iommu0
    driver: paging
    devices: [{ name: test0, model: iommu_test, address: "0000:00:03.0" }]
`;

const folder = mkdtempSync(join(tmpdir(), 'iommulator-page-request-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Builds a client and runs it with a machine that has the device. */
function runClient(name: string, ...options: string[]) {
  writeHeaders(folder);
  const [program, machine] = [join(folder, name), join(folder, 'machine.yaml')];
  const source = fileURLToPath(new URL(`clients/${name}.c`, import.meta.url));
  execFileSync('gcc', ['-O1', '-w', '-I', folder, '-o', program, source]);
  writeFileSync(machine, MACHINE);
  return outcome(launcher, ['run', '--machine', machine, ...options, '--', program]);
}

describe.skipIf(cannotRun)(`a device that faults, under run ${cannotRun}`, () => {
  test('tries again after the answer, and interrupts a program that only waits', () => {
    const { stdout, stderr, status } = runClient('page_request');
    expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
    expect(stdout.split('\n')).toEqual([
      'a page request: 1, an interrupt: 0',
      'read 40: address 100000, group 5, permission 1',
      'answered: 8',
      'the interrupt of the retry: 1',
      'state 3',
      '',
    ]);
  });
});

describe.skipIf(cannotRun)(`a device that lies, under run ${cannotRun}`, () => {
  test('is not noticed by the program', () => {
    const { stdout, stderr, status } = runClient('stale');
    expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
    expect(stdout).toBe('mapped: state 3\nunmapped: state 3\n');
  });

  test('is told of by --check, at its DMA', () => {
    const { stderr, status } = runClient('stale', '--check');
    expect(status).toBe(125);
    expect(stderr).toMatch(
      /^stale translation: write of 0x100000 by 0000:00:03.0 reaches frame 0x\w+ by the device TLB, where the tables allow nothing\. Last change: 0x100000-0x100fff unmapped or cleaned\. Asked for, .* not done: device TLB, device 0000:00:03.0\.\niommulator: 1 DMA was served/,
    );
  });
});
