// SPDX-License-Identifier: Apache-2.0
/** VFIO devices in the hands of real processes, with the real engine and its default machine (an edu device). */
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { writeHeaders } from './abi_headers.ts';
import { cannotRun, client, ending, supervise } from './support.ts';

const expected = (name: string): string =>
  readFileSync(new URL(`clients/${name}.expected`, import.meta.url), 'utf8');

/** Where the private tree is made; it has to be as empty afterwards. */
let temporary: string;
const before = process.env['TMPDIR'];
beforeEach(() => {
  temporary = mkdtempSync(join(tmpdir(), 'iommulator-tree-'));
  process.env['TMPDIR'] = temporary;
});
afterEach(() => {
  if (before === undefined) delete process.env['TMPDIR'];
  else process.env['TMPDIR'] = before;
  rmSync(temporary, { recursive: true, force: true });
});

const run = (name: string, ...args: string[]) =>
  supervise([client(name), ...args], { engine: true });

describe.skipIf(cannotRun)(`a VFIO device under run ${cannotRun}`, () => {
  // Checked by hand against Linux 7.2's drivers/vfio and fs/read_write.c.
  test.each([
    ['dynamically linked', []],
    ['statically linked', ['-static']],
  ])('looks to a %s program as on Linux', (_, flags) => {
    const { stdout, status, events } = supervise([client('vfio', ...flags), 'surface'], {
      engine: true,
    });
    expect(stdout).toBe(expected('vfio'));
    expect(status).toBe(0);
    expect(ending(events).leakedDescriptors).toBe(0);
  });

  test('signals eventfds that it holds, whatever the program does with its own descriptors', () => {
    const { stdout, events } = run('vfio', 'interrupts');
    expect(stdout).toBe(expected('interrupts'));
    expect(ending(events).leakedDescriptors).toBe(0);
  });

  // Recorded on Linux 7.2 in a virtual machine: QEMU with `-M q35 -device intel-iommu -device edu,addr=02.0`, the device given to vfio-pci
  // by hand, iommufd's allow_unsafe_interrupts on. The program is linked statically and takes the same argument there.
  test.each(['groups', 'events'])('answers questions about %s as Linux did', (about) => {
    const headers = mkdtempSync(join(temporary, 'headers-'));
    writeHeaders(headers);
    const program = client('vfio_asked', '-I', headers);
    rmSync(headers, { recursive: true });
    const { stdout, status, events } = supervise([program, about], { engine: true });
    expect(stdout).toBe(expected(`vfio_asked_${about}`));
    expect(status).toBe(0);
    expect(ending(events).leakedDescriptors).toBe(0);
  });

  test('serves container and group as well', () => {
    const { stdout, status, events } = run('group');
    expect(stdout).toBe(expected('group'));
    expect(status).toBe(0);
    expect(ending(events).leakedDescriptors).toBe(0);
  });

  test('writes nothing beside what is mapped for it', () => {
    const { stdout } = run('vfio', 'paint');
    expect(stdout).toBe('many done and many refused, memory as it should be\n');
  });

  test.each([1, 2, 3])(
    'is free again however its users end or close, and nothing stays behind (seed %i)',
    (seed) => {
      const { stdout, stderr, events } = run('vfio', 'chaos', String(seed), '40');
      expect(stderr).toBe('');
      expect(stdout).toBe('40 lives, device free\n');
      expect(ending(events).leakedDescriptors).toBe(0);
    },
  );
});

describe.skipIf(cannotRun)(`sysfs of the machine under run ${cannotRun}`, () => {
  test('is found by absolute, relative and dirfd paths, and is gone after the run', () => {
    const { stdout, status, events } = run('tree');
    expect(stdout).toBe(expected('tree'));
    expect(status).toBe(0);
    expect(ending(events).leakedDescriptors).toBe(0);
    expect(readdirSync(temporary)).toEqual([]);
  });

  test('lists the entries of the host beside those of the machine', () => {
    const { stdout } = supervise(['ls', '/sys/class'], { engine: true });
    expect(stdout.split('\n')).toEqual(
      expect.arrayContaining([...readdirSync('/sys/class'), 'vfio-dev']),
    );
  });

  test('leaves no folder behind after a failure of the supervisor', () => {
    const { stdout, stderr } = supervise([client('tree'), 'bug'], { tree: true });
    expect(stdout).toBe('/sys/class/iommulator-test: file\nfile: text\n');
    expect(stderr).toContain('a bug of the test device');
    expect(readdirSync(temporary)).toEqual([]);
  });
});
