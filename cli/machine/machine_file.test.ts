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

  it('shows addresses in hexadecimal', () => {
    expect(machineText(findMachine('reserved-regions'))).toContain('start: 0xfee00000');
  });

  it.each([
    ['name: [', ['1:8']],
    ['name: a', ['1:1 iommus: expected a list']],
    ['name: 5\niommus: []', ['1:7 name: expected a text']],
    [
      'name: a\niommus: []\ncolour: red',
      ['3:1 there is no key "colour" here; known: name, summary, iommus'],
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
  ])('%j is refused with place and reason', (text, expected) => {
    const found = mistakes(text);
    expect(found).toHaveLength(expected.length);
    found.forEach((mistake, i) =>
      expect(mistake.startsWith(expected[i] ?? '?'), mistake).toBe(true),
    );
  });

  it('that is not there names the presets', () => {
    expect(() => findMachine('nowhere.yaml')).toThrow(/none of edu, test-driver.*ENOENT/);
  });
});
