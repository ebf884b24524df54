// SPDX-License-Identifier: Apache-2.0
/** C headers of our own tables, for clients that need more of the interface than this machine's headers have. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as iommufd from '../../src/abi/iommufd.ts';
import * as selftest from '../../src/abi/iommufd_test.ts';
import type { CType, StructType } from '../../src/abi/struct.ts';
import * as vfio from '../../src/abi/vfio.ts';

const isStruct = (value: unknown): value is StructType<unknown> =>
  typeof value === 'object' && value !== null && 'fields' in value;

/** `__u32 size;`, with what has no name of its own written out. */
function member(name: string, type: CType<unknown>): string {
  if (!isStruct(type)) {
    const [base, length] = type.cName.split('[');
    const declared = length === undefined ? name : `${name}[${length}`;
    return `${isKnown(base ?? '') ? base : `struct ${base}`} ${declared};`;
  }
  if (type.cName !== '') return `struct ${type.cName} ${name};`;
  const kind = type.isUnion ? 'union' : 'struct';
  // A union of a structure has no name in C; a member of a union has.
  return `${kind} ${body(type)} ${type.isUnion ? '' : name};`;
}
const isKnown = (cName: string): boolean => cName.startsWith('__');

function body(type: StructType<unknown>): string {
  return `{ ${type.fields.map((field) => member(field.name, field.type)).join(' ')} }`;
}

function header(module: Readonly<Record<string, unknown>>): string {
  const lines = ['#pragma once', '#include <linux/types.h>'];
  for (const [name, value] of Object.entries(module)) {
    if (typeof value === 'number' && /^[A-Z_]/.test(name)) lines.push(`#define ${name} ${value}u`);
  }
  const done = new Set<string>();
  const declare = (type: StructType<unknown>): void => {
    for (const field of type.fields) if (isStruct(field.type)) declare(field.type);
    if (type.cName === '' || done.has(type.cName)) return;
    done.add(type.cName);
    lines.push(`struct ${type.cName} ${body(type)};`);
  };
  // Elements of arrays are declared before their structures: by size, small ones first.
  const structs = Object.values(module).filter(isStruct);
  for (const type of structs.toSorted((a, b) => a.size - b.size)) declare(type);
  return `${lines.join('\n')}\n`;
}

/** Writes linux/iommufd.h, linux/vfio.h and iommufd_test.h below `folder`, for -I. */
export function writeHeaders(folder: string): void {
  mkdirSync(join(folder, 'linux'), { recursive: true });
  writeFileSync(join(folder, 'linux/iommufd.h'), header(iommufd));
  writeFileSync(join(folder, 'linux/vfio.h'), header(vfio));
  const rest = header(selftest).replace('#pragma once', '#pragma once\n#include <linux/iommufd.h>');
  writeFileSync(join(folder, 'iommufd_test.h'), rest);
}
