// SPDX-License-Identifier: Apache-2.0
/**
 * What Linux 7.2 answered about the page tables of a device behind QEMU's VT-d, in three shapes of it, recorded as vfio.test.ts says. Our machine
 * is told to have the same capability registers, which are among the answers.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { writeHeaders } from './abi_headers.ts';
import { cannotRun, client, launcher, outcome } from './support.ts';

const folder = mkdtempSync(join(tmpdir(), 'iommulator-hwpt-'));
afterAll(() => rmSync(folder, { recursive: true }));

const register = (name: string, answers: string): string =>
  new RegExp(`registers\\.${name}: (0x[0-9a-f]+)`).exec(answers)?.[1] ?? 'missing';

describe.skipIf(cannotRun)(`page tables of a device behind VT-d under run ${cannotRun}`, () => {
  test.each([
    ['legacy', '-device intel-iommu'],
    ['second_stage', '-device intel-iommu,scalable-mode=on,pasid-bits=20,snoop-control=on'],
    [
      'first_stage',
      '-device intel-iommu,scalable-mode=on,fsts=on,pasid-bits=20,svm=on,device-iotlb=on',
    ],
  ])('are as on Linux: %s (QEMU 11.1 with %s)', (shape) => {
    const expected = readFileSync(
      new URL(`clients/hwpt_asked_${shape}.expected`, import.meta.url),
      'utf8',
    );
    const machine = join(folder, `${shape}.yaml`);
    const devices = 'devices: [{name: edu0, model: edu, address: "00:02.0"}]';
    const registers = `cap: ${register('cap_reg', expected)}, ecap: ${register('ecap_reg', expected)}`;
    writeFileSync(
      machine,
      `name: ${shape}\niommus:\n  - {name: dmar0, driver: intel-vtd, ${registers}, ${devices}}\n`,
    );
    writeHeaders(folder);
    const program = client('hwpt_asked', '-I', folder);
    const { stdout, stderr, status } = outcome(launcher, [
      'run',
      '--machine',
      machine,
      '--',
      program,
    ]);
    expect(stderr).toBe('');
    expect(stdout).toBe(expected);
    expect(status).toBe(0);
  });
});
