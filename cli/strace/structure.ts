// SPDX-License-Identifier: Apache-2.0
import type { CType, Field, PointedArray, StructType } from '../../src/abi/struct.ts';
import { flexibleText } from './flexible.ts';
import { type Direction, memberInUse } from './unions.ts';
import { isZero, valueText } from './value.ts';

/**
 * A structure as strace would show it: the fields that the program passed, then, after `=>`, those that the kernel
 * wrote. Fields named `out_…` carry nothing in, so they are shown only on the way out.
 */
export interface StructureText {
  /** `{size=12, flags=0}` */
  readonly passed: string;
  /** `{out_ioas_id=1}`, or empty where nothing was written. */
  readonly written: string;
}

/** One structure before and after its call. */
export interface StructureBytes {
  readonly type: StructType<unknown>;
  readonly before: Uint8Array;
  readonly after: Uint8Array;
  /** Whether the call succeeded: then output fields are shown even where their bytes did not change. */
  readonly succeeded: boolean;
  /** By field: what is behind pointers to arrays. */
  readonly arrays?: ReadonlyMap<string, Uint8Array> | undefined;
}

interface Context {
  readonly root: StructType<unknown>;
  readonly before: DataView;
  readonly after: DataView;
  readonly succeeded: boolean;
  readonly arrays: ReadonlyMap<string, Uint8Array> | undefined;
}

const isAggregate = (type: CType<unknown>): type is StructType<unknown> => 'fields' in type;
const isOutput = (name: string): boolean => name.startsWith('out_');
const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** The fields to show of an aggregate: all of a structure, the member in use of a union. */
function fieldsOf(
  type: StructType<unknown>,
  context: Context,
  direction: Direction,
): readonly Field[] {
  if (!type.isUnion) return type.fields;
  const member = memberInUse(context.root, type, context.before, direction);
  return member ? [member] : [];
}

/** Calls `visit` with each field that holds a plain value, and wraps those of inner structures in `name={…}`. */
function fieldTexts(
  type: StructType<unknown>,
  base: number,
  context: Context,
  direction: Direction,
  visit: (field: Field, offset: number) => string | undefined,
): string[] {
  const texts: string[] = [];
  for (const field of fieldsOf(type, context, direction)) {
    const offset = base + field.offset;
    if (isAggregate(field.type)) {
      const inner = fieldTexts(field.type, offset, context, direction, visit);
      // A union has no braces of its own: its member in use stands in its place, as in C.
      if (field.type.isUnion) texts.push(...inner);
      else if (inner.length > 0) texts.push(`${field.name}={${inner.join(', ')}}`);
    } else {
      const text = visit(field, offset);
      if (text !== undefined) texts.push(`${field.name}=${text}`);
    }
  }
  return texts;
}

/** The array behind a pointer, where `by` fills it: `[{start=0, last=0xfff}]`; with `...` where it goes on. */
function arrayText(
  field: Field,
  by: PointedArray['by'],
  view: DataView,
  context: Context,
): string | undefined {
  const { show } = field.type;
  const to = show.as === 'pointer' ? show.to : undefined;
  const bytes = context.arrays?.get(field.name);
  if (!to || !bytes || to.by !== by) return undefined;
  const { element } = to;
  const elements = viewOf(bytes);
  const texts: string[] = [];
  for (let base = 0; base < bytes.length; base += element.size) {
    const inner = fieldTexts(element, base, context, 'passed', ({ type }, offset) =>
      valueText(type, type.read(elements, offset)),
    );
    texts.push(`{${inner.join(', ')}}`);
  }
  const counter = context.root.fields.find(({ name }) => name === to.count);
  const count = counter ? Number(counter.type.read(view, counter.offset)) : texts.length;
  if (count > texts.length) texts.push('...');
  return `[${texts.join(', ')}]`;
}

function passedText(
  field: Field,
  offset: number,
  end: number,
  context: Context,
): string | undefined {
  const { name, type } = field;
  const view = context.before;
  if (offset + type.size > end) return undefined;
  const value = type.read(view, offset);
  if (type.show.as === 'reserved' && isZero(value)) return undefined;
  if (isOutput(name)) return undefined;
  if (type.size === 0) return flexibleText(context.root, view, context.arrays?.get(name));
  return arrayText(field, 'program', view, context) ?? valueText(type, value);
}

function writtenText(
  field: Field,
  offset: number,
  end: number,
  context: Context,
): string | undefined {
  const { name, type } = field;
  if (offset + type.size > end) return undefined;
  if (context.succeeded) {
    const array = arrayText(field, 'kernel', context.after, context);
    if (array !== undefined) return array;
  }
  let changed = false;
  for (let at = offset; at < offset + type.size; at++) {
    if (context.before.getUint8(at) !== context.after.getUint8(at)) changed = true;
  }
  if (!changed && !(context.succeeded && isOutput(name))) return undefined;
  return valueText(type, type.read(context.after, offset));
}

/** Structures as they are, one after the other, as many as `bytes` holds whole: `{cookie=0, code=IOMMUFD_PAGE_RESP_SUCCESS}`. */
export function recordsText(type: StructType<unknown>, bytes: Uint8Array): string[] {
  const view = viewOf(bytes);
  const context: Context = {
    root: type,
    before: view,
    after: view,
    succeeded: true,
    arrays: undefined,
  };
  const texts: string[] = [];
  for (let base = 0; base + type.size <= bytes.length; base += type.size) {
    const fields = fieldTexts(type, base, context, 'passed', ({ type: field }, offset) => {
      const value = field.read(view, offset);
      return field.show.as === 'reserved' && isZero(value) ? undefined : valueText(field, value);
    });
    texts.push(`{${fields.join(', ')}}`);
  }
  return texts;
}

/**
 * Bytes of the structure that the program says it passed: the `size` or `argsz` in its first word, at most what was
 * recorded. The engine completes short structures with zeros, which the program did not write.
 */
function passedBytes(type: StructType<unknown>, before: DataView): number {
  const first = type.fields[0];
  const recorded = Math.min(before.byteLength, type.size);
  if (before.byteLength < 4 || (first?.name !== 'size' && first?.name !== 'argsz')) return recorded;
  return Math.min(recorded, Math.max(4, before.getUint32(0, true)));
}

/** What lies beyond the structure that the tables know, where it is not zero: the usual reason for E2BIG. */
function tailText(type: StructType<unknown>, before: Uint8Array): string[] {
  const tail = before.subarray(type.size);
  const first = tail.findIndex((byte) => byte !== 0);
  if (first < 0) return [];
  const byte = tail[first] ?? 0;
  return [`/* byte ${type.size + first} is 0x${byte.toString(16)}, beyond ${type.cName} */`];
}

/** Decodes a structure with its fields before and after a call. */
export function structureText(structure: StructureBytes): StructureText {
  const { type, before, after, succeeded, arrays } = structure;
  const context: Context = {
    root: type,
    before: viewOf(before),
    after: viewOf(after),
    succeeded,
    arrays,
  };
  const end = passedBytes(type, context.before);
  const passed = fieldTexts(type, 0, context, 'passed', (field, offset) =>
    passedText(field, offset, end, context),
  );
  const comparable = Math.min(end, after.byteLength);
  const written = fieldTexts(type, 0, context, 'written', (field, offset) =>
    writtenText(field, offset, comparable, context),
  );
  return {
    passed: `{${[...passed, ...tailText(type, before)].join(', ')}}`,
    written: written.length === 0 ? '' : `{${written.join(', ')}}`,
  };
}
