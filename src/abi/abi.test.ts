// SPDX-License-Identifier: Apache-2.0
/**
 * The tables beside what a C compiler made of the real headers (`test/golden/abi.json`, made by
 * `node tools/abi/record.mjs`). Both ways: what the header has is in the tables, and the reverse.
 */
import { describe, expect, test } from 'vitest';
import golden from '../../test/golden/abi.json' with { type: 'json' };
import * as iommufd from './iommufd.ts';
import * as iommufdTest from './iommufd_test.ts';
import { iommu_ioas_map_file, iommu_option } from './iommufd.ts';
import { iommu_test_cmd, iommu_test_op, iommu_test_op_member } from './iommufd_test.ts';
import type { CType, StructType } from './struct.ts';
import * as vfio from './vfio.ts';

/** As the recording has it: name of the field as C writes it, then offset, size, and 1 where it is signed. */
type Layout = Record<string, number[]>;
interface Recorded {
  readonly structs: Record<string, { size: number; align: number; fields: Layout }>;
  readonly constants: Record<string, number>;
}

const isStruct = (value: unknown): value is StructType<unknown> =>
  typeof value === 'object' && value !== null && 'fields' in value;

/** A signed integer reads back the -1 that was written. */
function isSigned(type: CType<unknown>): boolean {
  if (isStruct(type) || type.cName.endsWith(']') || type.size > 4) return false;
  const view = new DataView(new ArrayBuffer(8));
  type.write(view, 0, -1);
  return type.read(view, 0) === -1;
}

/** Members of a union without a name belong to the structure around it. */
function layoutOf(type: StructType<unknown>, prefix = '', base = 0): Layout {
  const layout: Layout = {};
  for (const field of type.fields) {
    const offset = base + field.offset;
    const inner = isStruct(field.type) ? field.type : undefined;
    if (inner?.isUnion && inner.cName === '') {
      Object.assign(layout, layoutOf(inner, prefix, offset));
      continue;
    }
    layout[prefix + field.name] = [offset, field.type.size, Number(isSigned(field.type))];
    // Only a structure that is declared in place; one with a name has an entry of its own.
    if (inner?.cName === '')
      Object.assign(layout, layoutOf(inner, `${prefix}${field.name}.`, offset));
  }
  return layout;
}

const headers: [string, Recorded, Record<string, unknown>][] = [
  ['linux/iommufd.h', golden.headers['linux/iommufd.h'], { ...iommufd }],
  ['linux/vfio.h', golden.headers['linux/vfio.h'], { ...vfio }],
  ['iommufd_test.h', golden.headers['iommufd_test.h'], { ...iommufdTest }],
];

describe.each(headers)('%s', (_header, recorded, tables) => {
  const structs = Object.entries(tables).filter((entry): entry is [string, StructType<unknown>] =>
    isStruct(entry[1]),
  );
  const constants = Object.entries(tables).filter(
    (entry): entry is [string, number] => typeof entry[1] === 'number',
  );

  test('the recording is not empty', () => {
    expect(Object.keys(recorded.structs).length).toBeGreaterThan(5);
    expect(Object.keys(recorded.constants).length).toBeGreaterThan(20);
  });

  test('has the same structures as the tables', () => {
    expect(structs.map(([name]) => name).toSorted()).toEqual(
      Object.keys(recorded.structs).toSorted(),
    );
    for (const [name, type] of structs) expect(type.cName).toBe(name);
  });

  test.each(structs)('struct %s has the size, the offsets and the fields of C', (name, type) => {
    const { size, align, fields } = recorded.structs[name] ?? {};
    expect({ size: type.size, align: type.align, fields: layoutOf(type) }).toEqual({
      size,
      align,
      fields,
    });
  });

  test('has the same constants and ioctl numbers as the tables', () => {
    expect(Object.fromEntries(constants)).toEqual(recorded.constants);
  });

  test('every name in a table of names is exported with its value', () => {
    for (const [table, names] of Object.entries(tables)) {
      if (
        typeof names !== 'object' ||
        names === null ||
        isStruct(names) ||
        table === 'iommu_test_op_member'
      )
        continue;
      for (const [name, value] of Object.entries(names))
        expect({ name, value: tables[name] }).toEqual({ name, value });
    }
  });
});

/** Every name that the fields of a structure show, nested ones included, with its value. */
function shownNames(type: StructType<unknown>): [string, number][] {
  return type.fields.flatMap(({ type: field }) => {
    const inner = isStruct(field) ? shownNames(field) : [];
    const { show } = field;
    return show.as === 'flags' || show.as === 'enum'
      ? [...inner, ...Object.entries(show.names)]
      : inner;
  });
}

test('names shown for flags and enumerators are constants of the headers', () => {
  const all: Record<string, unknown> = Object.assign(
    {},
    ...headers.map(([, recorded]) => recorded.constants),
  );
  const shown = headers.flatMap(([, , tables]) =>
    Object.values(tables).filter(isStruct).flatMap(shownNames),
  );
  expect(shown.length).toBeGreaterThan(100);
  for (const [name, value] of shown) expect({ name, value }).toEqual({ name, value: all[name] });
});

test('every test command names its member of the union, and every member is named', () => {
  const byNumber = (a: number, b: number): number => a - b;
  expect(Object.keys(iommu_test_op_member).map(Number).toSorted(byNumber)).toEqual(
    Object.values(iommu_test_op).toSorted(byNumber),
  );
  const members = iommu_test_cmd.fields.find((field) => field.name === 'u')?.type;
  expect(isStruct(members) && members.fields.map((field) => field.name).toSorted()).toEqual(
    Object.values(iommu_test_op_member).toSorted(),
  );
});

test('an accessor reads and writes nested members in place', () => {
  const view = new DataView(new ArrayBuffer(iommu_test_cmd.size));
  const cmd = iommu_test_cmd.on(view);
  cmd.u.access_pages.iova = 0x1234_5678_9abc_def0n;
  expect(view.getBigUint64(24, true)).toBe(0x1234_5678_9abc_def0n);
  expect(cmd.u.access_pages.iova).toBe(0x1234_5678_9abc_def0n);
});

test('a signed field keeps its sign and a 16-bit field its width', () => {
  const file = iommu_ioas_map_file.on(new DataView(new ArrayBuffer(iommu_ioas_map_file.size)));
  file.fd = -1;
  expect(file.fd).toBe(-1);
  const option = iommu_option.on(new DataView(new ArrayBuffer(iommu_option.size)));
  option.op = 0x1_0001;
  expect([option.op, option.__reserved]).toEqual([1, 0]);
});
