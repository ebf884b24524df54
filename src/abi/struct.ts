// SPDX-License-Identifier: Apache-2.0
/**
 * C structures as tables. A structure is declared once, in the order of its header; offsets, padding and size follow
 * the C rules of x86-64 and arm64 (little endian, natural alignment) and are checked against a compiled C program.
 */

/** How a value is shown to people (strace lines, docs). Names of flags and enumerators are the kernel's. */
export type Show =
  | { readonly as: 'dec' | 'hex' | 'fd' | 'id' | 'reserved' }
  | { readonly as: 'pointer'; readonly to?: PointedArray }
  | { readonly as: 'flags' | 'enum'; readonly names: Readonly<Record<string, number>> };

/** An array behind a user pointer: as many elements as the structure's field `count` says. */
export interface PointedArray {
  readonly element: StructType<unknown>;
  readonly count: string;
  /** Who fills it. */
  readonly by: 'program' | 'kernel';
}

/** A C type: `T` is its value in TypeScript (number up to 32 bits, bigint for 64). */
export interface CType<T> {
  readonly cName: string;
  readonly size: number;
  readonly align: number;
  readonly show: Show;
  read(view: DataView, offset: number): T;
  write(view: DataView, offset: number, value: T): void;
}

export interface Field {
  readonly name: string;
  readonly type: CType<unknown>;
  readonly offset: number;
}

type Shape = Readonly<Record<string, CType<unknown>>>;
type Value<C> = C extends { read(view: DataView, offset: number): infer T } ? T : never;
/** The accessor of a structure in a buffer: reading and writing its properties reads and writes the bytes. */
export type Values<S> = { -readonly [K in keyof S]: Value<S[K]> };

export interface StructType<S> extends CType<Values<S>> {
  readonly fields: readonly Field[];
  readonly isUnion: boolean;
  /** Offset of the end of a field: C's offsetofend(). */
  offsetofend(field: keyof S & string): number;
  offsetof(field: keyof S & string): number;
  /** An accessor bound to a place in a buffer. */
  on(view: DataView, offset?: number): Values<S>;
}

const dec: Show = { as: 'dec' };

export const u8: CType<number> = {
  cName: '__u8',
  size: 1,
  align: 1,
  show: dec,
  read: (view, offset) => view.getUint8(offset),
  write: (view, offset, value) => view.setUint8(offset, value),
};

export const u16: CType<number> = {
  cName: '__u16',
  size: 2,
  align: 2,
  show: dec,
  read: (view, offset) => view.getUint16(offset, true),
  write: (view, offset, value) => view.setUint16(offset, value, true),
};

export const u32: CType<number> = {
  cName: '__u32',
  size: 4,
  align: 4,
  show: dec,
  read: (view, offset) => view.getUint32(offset, true),
  write: (view, offset, value) => view.setUint32(offset, value, true),
};

export const s32: CType<number> = {
  cName: '__s32',
  size: 4,
  align: 4,
  show: dec,
  read: (view, offset) => view.getInt32(offset, true),
  write: (view, offset, value) => view.setInt32(offset, value, true),
};

export const u64: CType<bigint> = {
  cName: '__aligned_u64',
  size: 8,
  align: 8,
  show: dec,
  read: (view, offset) => view.getBigUint64(offset, true),
  write: (view, offset, value) => view.setBigUint64(offset, value, true),
};

/** The same type, shown in hexadecimal. */
export const hex = <T>(type: CType<T>): CType<T> => ({ ...type, show: { as: 'hex' } });
/** A user pointer carried in an integer. */
export const pointer: CType<bigint> = { ...u64, show: { as: 'pointer' } };
/** A user pointer to an array of structures. */
export const pointerTo = (
  element: StructType<unknown>,
  count: string,
  by: PointedArray['by'],
): CType<bigint> => ({ ...u64, show: { as: 'pointer', to: { element, count, by } } });
/** A file descriptor number. */
export const fd: CType<number> = { ...u32, show: { as: 'fd' } };
/** The id of an iommufd object. */
export const id: CType<number> = { ...u32, show: { as: 'id' } };
/** Must be zero; shown only where it is not. */
export const reserved = <T>(type: CType<T>): CType<T> => ({ ...type, show: { as: 'reserved' } });
/** A set of flag bits with the kernel's names. */
export const flagsOf = <T>(type: CType<T>, names: Readonly<Record<string, number>>): CType<T> => ({
  ...type,
  show: { as: 'flags', names },
});
/** One of several numbers with the kernel's names. */
export const oneOf = <T>(type: CType<T>, names: Readonly<Record<string, number>>): CType<T> => ({
  ...type,
  show: { as: 'enum', names },
});

/** A fixed-size array; its value is a plain array, copied on each read. */
export function array<T>(type: CType<T>, length: number): CType<T[]> {
  return {
    cName: `${type.cName}[${length}]`,
    size: type.size * length,
    align: type.align,
    show: type.show,
    read: (view, offset) =>
      Array.from({ length }, (_, i) => type.read(view, offset + i * type.size)),
    write: (view, offset, value) =>
      value.forEach((item, i) => type.write(view, offset + i * type.size, item)),
  };
}

const alignUp = (value: number, align: number): number => Math.ceil(value / align) * align;

function layout(shape: Shape, isUnion: boolean): { fields: Field[]; size: number; align: number } {
  const fields: Field[] = [];
  let end = 0;
  let align = 1;
  for (const [name, type] of Object.entries(shape)) {
    const offset = isUnion ? 0 : alignUp(end, type.align);
    fields.push({ name, type, offset });
    end = Math.max(end, offset + type.size);
    align = Math.max(align, type.align);
  }
  return { fields, size: alignUp(end, align), align };
}

/**
 * Accessor instances: the buffer they are bound to. Getters and setters live on one prototype per structure. The fields are only
 * declared here: to define them takes V8 500 ns each in a class with so many subclasses.
 */
class Accessor {
  declare readonly view: DataView;
  declare readonly base: number;

  constructor(view: DataView, base: number) {
    this.view = view;
    this.base = base;
  }
}

function aggregate<S extends Shape>(cName: string, shape: S, isUnion: boolean): StructType<S> {
  const { fields, size, align } = layout(shape, isUnion);
  const Bound = class extends Accessor {};
  for (const { name, type, offset } of fields) {
    Object.defineProperty(Bound.prototype, name, {
      enumerable: true,
      get(this: Accessor) {
        return type.read(this.view, this.base + offset);
      },
      set(this: Accessor, value: unknown) {
        type.write(this.view, this.base + offset, value);
      },
    });
  }
  const find = (name: string): Field => {
    const field = fields.find((candidate) => candidate.name === name);
    if (!field) throw new TypeError(`${cName} has no field ${name}`);
    return field;
  };
  const on = (view: DataView, offset = 0): Values<S> =>
    new Bound(view, offset) as unknown as Values<S>;
  return {
    cName,
    size,
    align,
    show: dec,
    fields,
    isUnion,
    on,
    offsetof: (name) => find(name).offset,
    offsetofend: (name) => find(name).offset + find(name).type.size,
    read: on,
    write(view, offset, value) {
      for (const field of fields) {
        const item = (value as Record<string, unknown>)[field.name];
        if (item !== undefined) field.type.write(view, offset + field.offset, item);
      }
    },
  };
}

/** A C structure: `struct('iommu_destroy', { size: u32, id: id })`. */
export function struct<const S extends Shape>(cName: string, shape: S): StructType<S> {
  return aggregate(cName, shape, false);
}

/** A C union: every member at offset 0. */
export function union<const S extends Shape>(cName: string, shape: S): StructType<S> {
  return aggregate(cName, shape, true);
}

/** What an accessor of a structure type looks like: `Cmd<typeof iommu_destroy>`. */
export type Cmd<S> = S extends { on(view: DataView, offset?: number): infer T } ? T : never;
