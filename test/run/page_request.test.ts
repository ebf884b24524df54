// SPDX-License-Identifier: Apache-2.0
/** Page requests of a device, from a real process: what follows an answer happens without another call. */
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

describe.skipIf(cannotRun)(`a device that faults, under run ${cannotRun}`, () => {
  test('tries again after the answer, and interrupts a program that only waits', () => {
    writeHeaders(folder);
    const [program, machine] = [join(folder, 'page_request'), join(folder, 'machine.yaml')];
    const source = fileURLToPath(new URL('clients/page_request.c', import.meta.url));
    execFileSync('gcc', ['-O1', '-w', '-I', folder, '-o', program, source]);
    writeFileSync(machine, MACHINE);
    const { stdout, stderr, status } = outcome(launcher, [
      'run',
      '--machine',
      machine,
      '--',
      program,
    ]);
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
