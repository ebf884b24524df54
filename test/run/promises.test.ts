// SPDX-License-Identifier: Apache-2.0
/**
 * Every ioctl of examples/first_dma in C, field by field, against what Linux 7.2's uapi headers (vfio.h, iommufd.h) and its
 * pages on VFIO and iommufd promise: what the program passes, and what comes back, which is the fields named here and no other.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { cannotRun, launcher, outcome } from './support.ts';

type Fields = Record<string, string>;
interface SeenCall {
  readonly fd: string;
  readonly name: string;
  readonly passed: Fields;
  /** Fields that changed. */
  readonly returned: Fields;
  readonly result: string;
}
interface Promised {
  readonly call: string;
  readonly promise: string;
  readonly on: 'device' | 'iommufd';
  readonly passed: Record<string, unknown>;
  readonly returned: Record<string, unknown>;
}

const hex = expect.stringMatching(/^0x[0-9a-f]+$/) as unknown;
const id = expect.stringMatching(/^[1-9]\d*$/) as unknown;
const noCaps = { cap_offset: '0', size: '0', offset: '0' };

const PROMISES: readonly Promised[] = [
  {
    call: 'VFIO_DEVICE_BIND_IOMMUFD',
    promise: 'takes the iommufd as a descriptor, and generates the id of the device in it',
    on: 'device',
    passed: { argsz: '16', flags: '0', iommufd: id },
    returned: { out_devid: id },
  },
  {
    call: 'VFIO_DEVICE_GET_INFO',
    promise: 'says PCI, whose regions and interrupts have fixed indexes, and that it can be reset',
    on: 'device',
    passed: { argsz: '20', flags: '0', num_regions: '0', num_irqs: '0', cap_offset: '0' },
    returned: {
      flags: 'VFIO_DEVICE_FLAGS_RESET|VFIO_DEVICE_FLAGS_PCI',
      num_regions: '9',
      num_irqs: '5',
    },
  },
  {
    call: 'VFIO_DEVICE_GET_REGION_INFO',
    promise: 'BAR 0: its size, where it is in the file (index << 40), readable and writable',
    on: 'device',
    passed: { argsz: '32', flags: '0', index: 'VFIO_PCI_BAR0_REGION_INDEX', ...noCaps },
    returned: {
      flags: 'VFIO_REGION_INFO_FLAG_READ|VFIO_REGION_INFO_FLAG_WRITE',
      size: '0x100000',
    },
  },
  {
    call: 'VFIO_DEVICE_GET_REGION_INFO',
    promise: 'config space: of 4 KiB, as PCI Express has it',
    on: 'device',
    passed: { argsz: '32', flags: '0', index: 'VFIO_PCI_CONFIG_REGION_INDEX', ...noCaps },
    returned: {
      flags: 'VFIO_REGION_INFO_FLAG_READ|VFIO_REGION_INFO_FLAG_WRITE',
      size: '0x1000',
      offset: '0x70000000000',
    },
  },
  {
    call: 'IOMMU_IOAS_ALLOC',
    promise: 'takes no flags and returns the id of an address space',
    on: 'iommufd',
    passed: { size: '12', flags: '0' },
    returned: { out_ioas_id: id },
  },
  {
    call: 'VFIO_DEVICE_ATTACH_IOMMUFD_PT',
    promise: 'takes an address space, and returns the page table that was made or chosen for it',
    on: 'device',
    passed: { argsz: '12', flags: '0', pt_id: id },
    returned: { pt_id: id },
  },
  {
    call: 'IOMMU_IOAS_MAP',
    promise: 'with FIXED_IOVA maps where it is told, and returns nothing new',
    on: 'iommufd',
    passed: {
      size: '40',
      flags: 'IOMMU_IOAS_MAP_FIXED_IOVA|IOMMU_IOAS_MAP_WRITEABLE|IOMMU_IOAS_MAP_READABLE',
      ioas_id: id,
      user_va: hex,
      length: '0x2000',
      iova: '0x100000',
    },
    returned: {},
  },
  {
    call: 'VFIO_DEVICE_SET_IRQS',
    promise: 'sets one eventfd for MSI 0: argsz counts the header and one descriptor',
    on: 'device',
    passed: {
      argsz: '24',
      flags: 'VFIO_IRQ_SET_DATA_EVENTFD|VFIO_IRQ_SET_ACTION_TRIGGER',
      index: 'VFIO_PCI_MSI_IRQ_INDEX',
      start: '0',
      count: '1',
      data: expect.stringMatching(/^\[\d+\]$/),
    },
    returned: {},
  },
  {
    call: 'IOMMU_IOAS_MAP',
    promise: 'without WRITEABLE maps for reading only',
    on: 'iommufd',
    passed: {
      size: '40',
      flags: 'IOMMU_IOAS_MAP_FIXED_IOVA|IOMMU_IOAS_MAP_READABLE',
      ioas_id: id,
      user_va: hex,
      length: '0x1000',
      iova: '0x200000',
    },
    returned: {},
  },
  {
    call: 'VFIO_DEVICE_DETACH_IOMMUFD_PT',
    promise: 'takes nothing but the device itself',
    on: 'device',
    passed: { argsz: '8', flags: '0' },
    returned: {},
  },
  {
    call: 'IOMMU_IOAS_UNMAP',
    promise: 'from 0 with the length of all ones unmaps everything, and returns how many bytes',
    on: 'iommufd',
    passed: { size: '24', ioas_id: id, iova: '0', length: '0xffffffffffffffff' },
    returned: { length: '0x3000' },
  },
];

const fieldsOf = (text: string): Fields =>
  Object.fromEntries(
    text
      .split(', ')
      .filter((field) => field !== '')
      .map((field) => field.split('=') as [string, string]),
  );

function seenCall(line: string): SeenCall[] {
  const match = /^ioctl\((\d+), (\w+), \{(.*?)\}(?: => \{(.*)\})?\) = (.*)$/.exec(line);
  if (match === null) return [];
  const [, fd = '', name = '', passed = '', returned = '', result = ''] = match;
  return [{ fd, name, passed: fieldsOf(passed), returned: fieldsOf(returned), result }];
}

const temporary = mkdtempSync(join(tmpdir(), 'iommulator-promises-'));
afterAll(() => rmSync(temporary, { recursive: true }));

describe.skipIf(cannotRun)(`what examples/first_dma is promised ${cannotRun}`, () => {
  const trace = (): string[] => {
    const [program, output] = [join(temporary, 'first_dma'), join(temporary, 'trace')];
    const source = fileURLToPath(new URL('../../examples/first_dma/first_dma.c', import.meta.url));
    execFileSync('gcc', ['-O2', '-o', program, source]);
    expect(outcome(launcher, ['run', '--strace', '-o', output, program])).toMatchObject({
      status: 0,
    });
    return readFileSync(output, 'utf8').split('\n');
  };

  test('comes back from every call, in every field, and nothing else does', () => {
    const lines = trace();
    const opened = (path: string) =>
      lines.find((line) => line.startsWith(`open("${path}")`))?.split(' = ')[1];
    const descriptors = {
      device: opened('/dev/vfio/devices/vfio0'),
      iommufd: opened('/dev/iommu'),
    };
    const seen = lines.flatMap(seenCall);
    expect(seen.map(({ name }) => name)).toEqual(PROMISES.map(({ call }) => call));
    for (const [index, { call, promise, on, passed, returned }] of PROMISES.entries()) {
      expect(seen[index], `${call} ${promise}`).toEqual({
        fd: descriptors[on],
        name: call,
        passed,
        returned,
        result: '0',
      });
    }
    // Ids are handed on as they were returned.
    const of = (name: string) => seen.find((each) => each.name === name);
    const ioas = of('IOMMU_IOAS_ALLOC')?.returned['out_ioas_id'];
    expect(of('VFIO_DEVICE_BIND_IOMMUFD')?.passed['iommufd']).toBe(descriptors.iommufd);
    expect(of('VFIO_DEVICE_ATTACH_IOMMUFD_PT')?.passed['pt_id']).toBe(ioas);
    expect(of('VFIO_DEVICE_ATTACH_IOMMUFD_PT')?.returned['pt_id']).not.toBe(ioas);

    // Registers and config space are places in the file: each access is answered whole.
    const accesses = lines.filter((line) => /^p(read|write)\(/.test(line));
    expect(accesses.length).toBeGreaterThan(20);
    for (const line of accesses) {
      const [, wanted, done] = /^\w+\(\d+, "(?:\\x..)+", (\d+), .*\) = (\d+)$/.exec(line) ?? [];
      expect(done, line).toBe(wanted);
    }
  });
});
