// SPDX-License-Identifier: Apache-2.0
import { ErrnoError } from '../base/errno.ts';
import { IdTable } from '../base/id_table.ts';
import type { Faults } from '../sim/faults.ts';

/** Kinds of objects with an id, as IOMMUFD_OBJ_* of iommufd.h (kernel internal). */
export type ObjectType =
  | 'ACCESS'
  | 'DEVICE'
  | 'FAULT'
  | 'HWPT_NESTED'
  | 'HWPT_PAGING'
  | 'HW_QUEUE'
  | 'IOAS'
  | 'SELFTEST'
  | 'VDEVICE'
  | 'VEVENTQ'
  | 'VIOMMU';

/** Something that a client knows by an id. `users` counts the table's own reference and all others. */
export abstract class IommufdObject {
  abstract readonly type: ObjectType;
  /** Set by the table; 0 before. */
  declare id: number;
  declare users: number;

  constructor() {
    // Not where they are declared: that is slow in a class with many subclasses (see IntervalNode).
    this.id = 0;
    this.users = 1;
  }

  /** Gives back what the object holds; nobody refers to it any more. */
  abstract destroy(): void;
}

type ObjectClass<T extends IommufdObject> = abstract new (...args: never[]) => T;

/**
 * The objects of one open `/dev/iommu` by id (struct iommufd_ctx::objects). An id is taken before its object is complete
 * and shows only once nothing can fail any more (`finalize`); until then `abort` takes it back. References: `get` and `put`
 * for the length of a call, `users` for as long as one object needs another; `destroy` asks that none but the table's is left.
 */
export class ObjectTable {
  private readonly ids = new IdTable<IommufdObject>(1);
  private readonly faults: Faults;

  constructor(faults: Faults) {
    this.faults = faults;
  }

  /** Takes the lowest free id for an object that nobody can see yet; `finalize` or `abort` must follow. */
  reserve(object: IommufdObject): void {
    if (this.faults.point('alloc')) throw new ErrnoError('ENOMEM', 'no memory for the object');
    object.id = this.ids.reserve();
  }

  finalize(object: IommufdObject): void {
    this.ids.store(object.id, object);
  }

  /** Gives back the id of an object that was never finalized, without destroying the object. */
  abort(object: IommufdObject): void {
    this.ids.erase(object.id);
  }

  /** True where there is nothing at all, not even an id taken. */
  get isEmpty(): boolean {
    return this.ids.isEmpty();
  }

  /** Finds an object and takes a reference for the length of a call; `put` must follow. Throws ENOENT. */
  get<T extends IommufdObject>(id: number, kind: ObjectClass<T>, what: string): T {
    const object = this.ids.get(id);
    if (!object) throw new ErrnoError('ENOENT', `there is no object with id ${id}`);
    if (!(object instanceof kind)) {
      throw new ErrnoError('ENOENT', `object ${id} is of type ${object.type}, not ${what}`);
    }
    object.users++;
    return object;
  }

  /** The object with an id now, without a reference; undefined where there is none that can be named. */
  find(id: number): IommufdObject | undefined {
    return this.ids.get(id);
  }

  put(object: IommufdObject): void {
    object.users--;
  }

  /** IOMMU_DESTROY: throws ENOENT, or EBUSY while anything refers to the object. */
  destroy(id: number): void {
    const object = this.ids.get(id);
    if (!object) throw new ErrnoError('ENOENT', `there is no object with id ${id}`);
    if (object.users !== 1) {
      const others = object.users - 1;
      throw new ErrnoError(
        'EBUSY',
        `${object.type} ${id} is in use by ${others} other object${others > 1 ? 's' : ''}`,
      );
    }
    this.remove(object);
  }

  /** Destroys an object of which the caller holds the last reference but the table's. */
  destroyUser(object: IommufdObject): void {
    object.users--;
    if (object.users !== 1)
      throw new Error(`${object.type} ${object.id} still has ${object.users} users`);
    this.remove(object);
  }

  /** Puts the caller's reference and destroys the object if that was the last (automatic page tables). */
  putAndTryDestroy(object: IommufdObject): void {
    object.users--;
    if (object.users === 1) this.remove(object);
  }

  /** Destroys an object that only the table refers to, and lets nothing else have its id until the last close. */
  tombstone(object: IommufdObject): void {
    if (object.users !== 1)
      throw new Error(`${object.type} ${object.id} still has ${object.users} users`);
    this.ids.tombstone(object.id);
    object.users = 0;
    object.destroy();
  }

  private remove(object: IommufdObject): void {
    this.ids.erase(object.id);
    object.users = 0;
    object.destroy();
  }

  /** Objects that clients could name now, in order of their ids. */
  *[Symbol.iterator](): IterableIterator<IommufdObject> {
    for (const [, object] of this.ids.entries()) yield object;
  }

  /** The last close: destroys leaves first, until nothing is left. */
  destroyAll(): void {
    for (let left = this.ids.size; left > 0;) {
      for (const object of this) if (object.users === 1) this.remove(object);
      if (this.ids.size === left) {
        const stuck = [...this].map(
          (object) => `${object.type} ${object.id} (${object.users} users)`,
        );
        throw new Error(`objects hold each other at the last close: ${stuck.join(', ')}`);
      }
      left = this.ids.size;
    }
  }
}
