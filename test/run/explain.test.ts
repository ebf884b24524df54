// SPDX-License-Identifier: Apache-2.0
/** `iommulator explain`: what a program's calls make of one address of its device. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { cannotRun, launcher, outcome } from './support.ts';

const temporary = mkdtempSync(join(tmpdir(), 'iommulator-explain-'));
afterAll(() => rmSync(temporary, { recursive: true }));

describe.skipIf(cannotRun)(`iommulator explain ${cannotRun}`, () => {
  test('shows the way of an address after each call that changes it', () => {
    const program = join(temporary, 'first_dma');
    const source = fileURLToPath(new URL('../../examples/first_dma/first_dma.c', import.meta.url));
    execFileSync('gcc', ['-O2', '-o', program, source]);
    const { status, stderr } = outcome(launcher, [
      ...['explain', '--machine', 'vtd', '0x100000', '--', program],
    ]);
    expect(status).toBe(0);
    const steps = stderr.split(/^after /m).slice(1);
    const inShort = steps.map((step) => {
      const lines = step.trimEnd().split('\n');
      return [
        lines[0],
        lines
          .at(-2)
          ?.trim()
          .replace(/0x\w{8,}/, 'N'),
      ];
    });
    expect(inShort).toEqual([
      [
        'VFIO_DEVICE_BIND_IOMMUFD:',
        'refused: the PASID entry is not present, so the device is blocked',
      ],
      ['VFIO_DEVICE_ATTACH_IOMMUFD_PT:', 'refused: 0x100000 is not mapped in the first stage'],
      ['IOMMU_IOAS_MAP:', 'for reading and writing: ends at N'],
      [
        'VFIO_DEVICE_DETACH_IOMMUFD_PT:',
        'refused: the PASID entry is not present, so the device is blocked',
      ],
      [
        'the close of /dev/vfio/devices/vfio0:',
        'refused: 0x100000 is not mapped in the first stage',
      ],
    ]);
    expect(steps[2]?.match(/first stage, level/g)).toHaveLength(5);
    expect(steps[2]).toContain('the map at [0x100000, 0x101fff] of user_va 0x');
  });

  test('says so where the program has changed nothing', () => {
    const { status, stderr } = outcome(launcher, ['explain', '4096', 'true']);
    expect(status).toBe(0);
    expect(stderr).toMatch(/^no call of the program has changed it:\n {4}0000:00:02\.0 at 0x1000:/);
  });

  test.each([
    [['explain', 'nowhere', '--', 'true'], /Give an address below 2\^64/],
    [['explain', '0x10000000000000000', 'true'], /Give an address below 2\^64/],
    [['explain', '0x1000', '--'], /missing required argument 'program'/],
    [['explain', '--pasid', '1048576', '0x1000', 'true'], /Give a number below 2\^20/],
    [
      ['explain', '--device', '0000:00:09.0', '0x1000', 'true'],
      /no function 0000:00:09\.0 to explain; those of the machine: 0000:00:02\.0/,
    ],
  ])('refuses %j with a sentence and 125, and starts nothing', (command, why) => {
    const { status, stdout, stderr } = outcome(launcher, command);
    expect([status, stdout]).toEqual([125, '']);
    expect(stderr).toMatch(why);
  });
});
