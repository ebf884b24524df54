// SPDX-License-Identifier: Apache-2.0
/** The model's objects beside address spaces, and who is attached to what. */
import type { File, Mm, User } from './memory.ts';
import type { DmaBuf, Ioas, Piece, Range } from './space.ts';

/** A page fault that waits: of which attachment, and what its record shows. */
export interface Fault {
  readonly group: Group;
  readonly slot: number;
  readonly from: Device;
  /** The id of the device through which its group was attached. */
  readonly attachedAs: number;
  readonly pasid: number;
  readonly grpid: number;
  readonly perm: number;
  readonly address: bigint;
}

export class FaultQueue {
  readonly kind = 'FAULT';
  readonly id: number;
  queued: Fault[] = [];
  /** Those that were read, by cookie. */
  readonly unanswered = new Map<number, Fault>();
  givesZero = false;
  isOpen = true;
  tables = 0;

  constructor(id: number) {
    this.id = id;
  }

  get users(): number {
    return 1 + (this.isOpen ? 1 : 0) + this.tables;
  }

  freeCookie(): number {
    let cookie = this.givesZero ? 0 : 1;
    while (this.unanswered.has(cookie)) cookie++;
    return cookie;
  }
}

/** The descriptor of a queue. */
export class FaultFile {
  readonly kind = 'queue';
  readonly queue: FaultQueue;

  constructor(queue: FaultQueue) {
    this.queue = queue;
  }
}

export class Hwpt {
  readonly kind = 'HWPT_PAGING';
  readonly id: number;
  readonly space: Ioas;
  readonly automatic: boolean;
  readonly dirty: boolean;
  /** The smallest page of its domain, and the addresses that it has. */
  readonly granule: bigint;
  readonly aperture: Range;
  readonly pasidCompatible: boolean;
  /** Tables of guests can stand on it, and how many do. */
  readonly nests: boolean;
  nested = 0;
  /** Attachments: of devices, and of PASIDs. */
  attached = 0;
  /** Where its page faults go. */
  fault: FaultQueue | undefined = undefined;

  constructor(
    id: number,
    space: Ioas,
    options: { automatic: boolean; dirty: boolean; huge: boolean; pasid: boolean; nests: boolean },
  ) {
    this.id = id;
    this.space = space;
    this.automatic = options.automatic;
    this.dirty = options.dirty;
    this.pasidCompatible = options.pasid;
    this.nests = options.nests;
    this.granule = options.huge ? 4096n : 2048n;
    this.aperture = options.huge
      ? { start: 0n, last: 2n ** 38n - 1n }
      : { start: 0x100_0000n, last: 0x7fff_ffffn };
  }

  get users(): number {
    return 1 + this.attached + this.nested;
  }
}

/** A guest's table: a cache of four entries, as the test driver has it. */
export class Nested {
  readonly kind = 'HWPT_NESTED';
  readonly id: number;
  readonly parent: Hwpt;
  readonly pasidCompatible: boolean;
  readonly automatic = false;
  readonly dirty = false;
  readonly cache: number[];
  attached = 0;
  fault: FaultQueue | undefined = undefined;

  constructor(id: number, parent: Hwpt, pasid: boolean, value: number) {
    this.id = id;
    this.parent = parent;
    this.pasidCompatible = pasid;
    this.cache = [value, value, value, value];
  }

  /** Reserved regions are its parent's address space's business. */
  get space(): Ioas {
    return this.parent.space;
  }

  get users(): number {
    return 1 + this.attached;
  }
}

/** A guest's share of an IOMMU: its devices by what it calls them. */
export class Viommu {
  readonly kind = 'VIOMMU';
  readonly id: number;
  readonly parent: Hwpt;
  readonly devices = new Map<bigint, Vdevice>();

  constructor(id: number, parent: Hwpt) {
    this.id = id;
    this.parent = parent;
  }

  get users(): number {
    return 1 + this.devices.size;
  }
}

export class Vdevice {
  readonly kind = 'VDEVICE';
  readonly users = 1;
  readonly id: number;
  readonly viommu: Viommu;
  readonly device: Device;
  readonly virtualId: bigint;

  constructor(id: number, viommu: Viommu, device: Device, virtualId: bigint) {
    this.id = id;
    this.viommu = viommu;
    this.device = device;
    this.virtualId = virtualId;
  }
}

/** What devices can be attached to. */
export type Table = Hwpt | Nested;

/** Devices that share a domain. */
export class Group {
  /** All devices, bound or not. */
  readonly members: Device[] = [];
  /** The table in force for all of them, and which of them attached it. */
  hwpt: Table | undefined = undefined;
  readonly attached = new Set<Device>();
  /** The tables of PASIDs; only mock devices, which are alone in their groups, have them. */
  readonly pasids = new Map<number, Table>();
  /** By PASID: the id of the device that was attached, or with which a table was replaced. */
  readonly attachedAs = new Map<number, number>();
}

/** A device of the machine; `id` is 0 while it is not bound. */
export class Device {
  readonly kind = 'DEVICE';
  id = 0;
  readonly noDirty: boolean;
  /** PASIDs that it has, that of none included. */
  readonly pasids: number;
  readonly group: Group;
  readonly reserved: readonly Range[];
  /** What a guest has of it. */
  vdevice: Vdevice | undefined = undefined;

  constructor(group: Group, noDirty: boolean, reserved: readonly Range[], pasids = 1) {
    this.pasids = pasids;
    this.group = group;
    this.noDirty = noDirty;
    this.reserved = reserved;
    group.members.push(this);
  }

  get isAttached(): boolean {
    return this.group.attached.has(this);
  }

  get users(): number {
    return 2 + (this.isAttached ? 1 : 0) + this.group.pasids.size;
  }
}

/** The test driver's handle of a mock device. */
export class Mock {
  readonly kind = 'SELFTEST';
  readonly users = 1;
  readonly id: number;
  readonly device: Device;

  constructor(id: number, device: Device) {
    this.id = id;
    this.device = device;
  }
}

/** Pages that an access holds. */
export interface Item {
  readonly id: number;
  readonly iova: bigint;
  readonly bytes: bigint;
  readonly pieces: readonly Piece[];
}

export class Access {
  readonly kind = 'ACCESS';
  readonly users = 2;
  readonly id: number;
  readonly pins: boolean;
  space: Ioas;
  items: Item[] = [];
  nextItem = 0;

  constructor(id: number, space: Ioas, pins: boolean) {
    this.id = id;
    this.space = space;
    this.pins = pins;
  }
}

export type Object_ = Ioas | Table | FaultQueue | Viommu | Vdevice | Device | Mock | Access;

/** What a descriptor stands for. */
export type Open =
  { readonly kind: 'iommufd' } | File | DmaBuf | Access | FaultFile | { readonly kind: 'pipe' };

export interface Process {
  readonly mm: Mm;
  readonly user: User;
  readonly memlock: number;
  readonly ipcLock: boolean;
  readonly fds: Map<number, Open>;
}
