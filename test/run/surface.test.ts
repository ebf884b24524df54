// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { cannotRun, client, ending, supervise } from './support.ts';

// Checked by hand against Linux 7.2's iommufd and its fs/: misc device, no read, write or llseek, mmap of nothing.
const expected = readFileSync(new URL('clients/surface.expected', import.meta.url), 'utf8');

describe.skipIf(cannotRun)(`what a program sees of a device node ${cannotRun}`, () => {
  test.each([
    ['dynamically linked', []],
    ['statically linked', ['-static']],
  ])('is what Linux shows to a %s program', (_, flags) => {
    const { stdout, status, events } = supervise([client('surface', ...flags)]);
    expect(stdout).toBe(expected);
    expect(status).toBe(0);
    expect(ending(events).leakedDescriptors).toBe(0);
  });

  test('is the same without the memory traps', () => {
    expect(supervise([client('surface')], { fast: true }).stdout).toBe(expected);
  });

  test('io_uring is refused unless allowed', () => {
    const allowed = supervise([client('surface')], { allowIoUring: true });
    expect(allowed.stdout).not.toContain('io_uring: EPERM');
  });
});
