// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { presets } from '../../src/machine/presets.ts';
import { machineText } from './machine_command.ts';
import { findMachine, parseMachine } from './machine_file.ts';

const mistakes = (text: string) => {
  const result = parseMachine(text);
  if (!Array.isArray(result)) throw new Error('the machine was accepted');
  return result.map(({ line, column, text: what }) => `${line}:${column} ${what}`);
};

describe('a machine file', () => {
  it.each(presets.map((preset) => [preset.name, preset] as const))(
    'that prints the preset %s reads back as the same machine',
    (_, preset) => {
      expect(parseMachine(machineText(preset))).toEqual({
        ...preset,
        iommus: preset.iommus.map((iommu) => ({ ...iommu })),
      });
    },
  );

  it('takes a PCI device with all its keys', () => {
    const machine = parseMachine(
      'name: a\niommus:\n  - name: i\n    driver: paging\n    devices:\n' +
        '      - name: d\n        model: edu\n        address: 0001:02:1f.7\n        group: g\n' +
        '        dmaBits: 40\n        reserved: [{start: 0, last: 0xfff, kind: reserved}]\n',
    );
    expect(Array.isArray(machine) ? machine : machine.iommus[0]?.devices).toEqual([
      {
        name: 'd',
        model: 'edu',
        address: '0001:02:1f.7',
        group: 'g',
        dmaBits: 40,
        reserved: [{ start: 0n, last: 0xfffn, kind: 'reserved' }],
      },
    ]);
  });

  it('takes the capabilities of a VT-d unit, as registers and by name', () => {
    const unit = (more: string): string =>
      `name: a\niommus:\n  - name: i\n    driver: intel-vtd\n    ${more}\n`;
    const fields = ['cap: 0xd2078c106f0466', 'ecap: 0xf020df', 'haw: 46'];
    const machine = parseMachine(
      unit([...fields, 'capabilities: {NEST: 1, MGAW: 38}'].join('\n    ')),
    );
    expect(Array.isArray(machine) ? machine : machine.iommus[0]).toEqual({
      ...{ name: 'i', driver: 'intel-vtd', devices: [] },
      ...{ cap: 0xd2078c106f0466n, ecap: 0xf020dfn, haw: 46 },
      capabilities: { NEST: 1, MGAW: 38 },
    });
    expect(mistakes(unit('capabilities: {NEST: 2, MGAW: no}'))).toEqual([
      '5:35 iommus[0].capabilities.MGAW: expected a number',
    ]);
    expect(mistakes(unit('capabilities: {NEST: 2}'))).toEqual([
      '5:26 iommus[0].capabilities.NEST: has 1 bit, and 2 does not fit',
    ]);
    expect(mistakes(unit('capabilities: {FOO: 2}'))[0]).toMatch(
      /^5:25 iommus\[0\]\.capabilities\.FOO: there is no such capability; known: ND, AFL, /,
    );
    expect(mistakes(unit('cap: 0x1ffffffffffffffff'))).toEqual([
      '5:10 iommus[0].cap: has more than 64 bits',
    ]);
  });

  it('says what becomes of page faults', () => {
    const machine = parseMachine(
      'name: a\niommus: []\nvfPageRequests: emulate\npageResponseTimeoutMs: 500\n',
    );
    expect(machine).toMatchObject({ vfPageRequests: 'emulate', pageResponseTimeoutMs: 500 });
    expect(mistakes('name: a\niommus: []\nvfPageRequests: allow\n')).toEqual([
      '3:17 vfPageRequests: expected one of refuse, emulate',
    ]);
  });

  it('shows addresses in hexadecimal', () => {
    expect(machineText(findMachine('reserved-regions'))).toContain('start: 0xfee00000');
  });

  it.each([
    ['name: [', ['1:8']],
    ['name: a', ['1:1 iommus: expected a list']],
    ['name: 5\niommus: []', ['1:7 name: expected a text']],
    [
      'name: a\niommus: []\ncolour: red',
      [
        '3:1 there is no key "colour" here; known: name, summary, iommus, vfPageRequests, pageResponseTimeoutMs',
      ],
    ],
    [
      'name: a\niommus:\n  - name: i\n    driver: vtd\n',
      ['4:13 iommus[0].driver: expected mock (the test driver) or paging'],
    ],
    [
      'name: a\niommus:\n  - name: i\n    driver: mock\n    devices:\n      - {name: d, pasid: yes please}\n',
      ['6:26 iommus[0].devices[0].pasid: expected true or false'],
    ],
    [
      'name: a\niommus:\n  - name: i\n    driver: mock\n    devices: [{name: d}, {name: d}]\n',
      ['5:33 iommus[0].devices[1].name: the name "d" is used already'],
    ],
    [
      'name: a\niommus:\n  - name: i\n    driver: mock\n    devices:\n' +
        '      - {name: d, reserved: [{start: 0x2000, last: 0x1fff, kind: msi}]}\n',
      [
        '6:30 iommus[0].devices[0].reserved[0]: ends before it starts: "last" belongs to the region',
      ],
    ],
    [
      'name: a\niommus:\n  - name: i\n    driver: mock\n    devices:\n' +
        '      - {name: d, reserved: [{start: -1, last: 0x1fff, kind: odd}]}\n',
      [
        '6:38 iommus[0].devices[0].reserved[0].start: must be from 0 to 0xffffffffffffffff',
        '6:62 iommus[0].devices[0].reserved[0].kind: expected one of direct, direct-relaxable, reserved, msi, sw-msi',
      ],
    ],
    [
      'name: a\niommus:\n  - name: i\n    driver: paging\n    devices:\n' +
        '      - {name: d, model: nvme, address: "00:32.0", dmaBits: 65}\n',
      [
        '6:26 iommus[0].devices[0].model: expected one of edu',
        '6:41 iommus[0].devices[0].address: is no PCI address such as "0000:00:02.0"',
        '6:61 iommus[0].devices[0].dmaBits: expected a number of bits from 1 to 64',
      ],
    ],
    [
      'name: a\niommus:\n  - name: i\n    driver: paging\n    devices:\n' +
        '      - {name: d, model: edu, address: 0000:00:02.0}\n' +
        '      - {name: e, model: edu, address: 00:02.0}\n',
      ['7:40 iommus[0].devices[1].address: "d" is at 0000:00:02.0 already'],
    ],
    [
      'name: a\niommus:\n  - name: i\n    driver: paging\n    devices: [{name: d, pasid: true}]\n',
      [
        '5:15 iommus[0].devices[0].model: expected one of edu',
        '5:15 iommus[0].devices[0].address: expected a PCI address such as "0000:00:02.0"',
        '5:25 iommus[0].devices[0]: there is no key "pasid" here; known: name, model, address',
      ],
    ],
    [
      'name: a\niommus:\n  - name: i\n    driver: paging\n    rootPorts: [{address: "00:1c.0", bus: 0}]\n' +
        '    devices: [{name: d, model: edu, address: "00:02.0", vfs: 1}]\n',
      [
        '5:43 iommus[0].rootPorts[0].bus: expected a number of a bus from 1 to 255',
        '6:62 iommus[0].devices[0].vfs: is for the model iommu_test, and this is edu',
      ],
    ],
    [
      'name: a\niommus:\n  - name: i\n    driver: paging\n    devices:\n' +
        '      - {name: d, model: iommu_test, address: "00:02.0", pasidBits: 21, pageRequests: no, vfs: 8}\n',
      [
        '6:87 iommus[0].devices[0].pageRequests: expected a number of page requests from 0 to 512',
        '6:69 iommus[0].devices[0].pasidBits: expected a number of bits from 0 to 20',
        '6:96 iommus[0].devices[0].vfs: expected a number of virtual functions from 0 to 7',
      ],
    ],
  ])('%j is refused with place and reason', (text, expected) => {
    const found = mistakes(text);
    expect(found).toHaveLength(expected.length);
    found.forEach((mistake, i) =>
      expect(mistake.startsWith(expected[i] ?? '?'), mistake).toBe(true),
    );
  });

  it('reads every option of iommu_test, and root ports', () => {
    const machine = parseMachine(
      'name: a\niommus:\n  - name: i\n    driver: paging\n    rootPorts: [{address: "00:1c.0", bus: 1, acs: false}]\n' +
        '    devices:\n      - {name: d, model: iommu_test, address: "01:00.0", acs: true, ats: false, pageRequests: 8, pasidBits: 5, vfs: 2}\n',
    );
    expect(machine).toMatchObject({
      iommus: [
        {
          rootPorts: [{ address: '00:1c.0', bus: 1, acs: false }],
          devices: [{ acs: true, ats: false, pageRequests: 8, pasidBits: 5, vfs: 2 }],
        },
      ],
    });
  });

  it('that is not there names the presets', () => {
    expect(() => findMachine('nowhere.yaml')).toThrow(/none of edu, test-driver.*ENOENT/);
  });
});
