// SPDX-License-Identifier: Apache-2.0
import { AccountMode, type Payer, type User } from '../memory/accounting.ts';
import { Capability, type Task } from '../kernel/task.ts';
import type { Iommufd } from './iommufd.ts';
import { DeviceGroups } from './device_group.ts';
import { Ioas } from './ioas.ts';
import { MmapRegions } from './mmap.ts';
import { type IommufdObject, ObjectTable } from './objects.ts';

/** Stands in for the user where another party is charged. */
const NOBODY: User = { uid: -1, lockedPages: 0 };

/** The state behind one open `/dev/iommu` (struct iommufd_ctx). It lives until its file and every access, queue and map of it are closed. */
export class Context {
  readonly iommufd: Iommufd;
  readonly objects: ObjectTable;
  readonly groups: DeviceGroups;
  /** What clients can map through the descriptor. */
  readonly mmaps = new MmapRegions(this);
  /** MM where locked memory is charged to the address space as VFIO did, else USER. */
  accountMode: AccountMode = AccountMode.USER;
  /** The address space of the VFIO container interface; it holds no reference. */
  vfioIoas: Ioas | undefined = undefined;
  private references = 1;

  constructor(iommufd: Iommufd) {
    this.iommufd = iommufd;
    this.objects = new ObjectTable(iommufd.sim.faults);
    this.groups = new DeviceGroups(iommufd.sim.faults);
  }

  get(): this {
    this.references++;
    return this;
  }

  put(): void {
    if (--this.references > 0) return;
    this.mmaps.look();
    this.objects.destroyAll();
    this.iommufd.closed(this);
  }

  /** IOMMU_DESTROY: throws ENOENT, or EBUSY while anything refers to the object or shows its pages. */
  destroy(id: number): void {
    this.mmaps.look();
    this.objects.destroy(id);
  }

  /** Runs `body` with an object of a kind that stays for that long; throws ENOENT where there is none. */
  withObject<T extends IommufdObject, R>(
    id: number,
    kind: abstract new (...args: never[]) => T,
    what: string,
    body: (object: T) => R,
  ): R {
    const object = this.objects.get(id, kind, what);
    try {
      return body(object);
    } finally {
      this.objects.put(object);
    }
  }

  /** The same for an address space. */
  withIoas<R>(id: number, body: (ioas: Ioas) => R): R {
    return this.withObject(id, Ioas, 'an IOAS', body);
  }

  /** Who pays for pages that `task` maps. The user is asked for only where it is the one: that is not free. */
  payer(task: Task, mode: AccountMode): Payer {
    const user = mode === AccountMode.USER ? task.user : NOBODY;
    return { mm: task.mm, user, process: task.process };
  }

  /** How pages that `task` maps are charged. */
  accountModeOf(task: Task): AccountMode {
    return task.capable(Capability.IPC_LOCK) ? AccountMode.NONE : this.accountMode;
  }
}
