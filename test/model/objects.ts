// SPDX-License-Identifier: Apache-2.0
/** The model's objects beside address spaces, and who is attached to what. */
import type { EventQueue } from './events.ts';
import type { FaultQueue, PageRequest } from './faults.ts';
import type { HwQueue } from './hw_queues.ts';
import type { File, Mm, User } from './memory.ts';
import type { DmaBuf, Ioas, Piece, Range } from './space.ts';

export class Hwpt {
  readonly kind = 'HWPT_PAGING';
  readonly id: number;
  readonly space: Ioas;
  readonly automatic: boolean;
  readonly dirty: boolean;
  /** The smallest page of its domain, and the addresses that it has. */
  readonly granule: bigint;
  /** A bit for each size of a page that its domain has. */
  readonly pageSizes: bigint;
  readonly aperture: Range;
  readonly pasidCompatible: boolean;
  /** Tables of guests can stand on it, and how many do. */
  readonly nests: boolean;
  nested = 0;
  /** Where its page faults go. */
  readonly fault: FaultQueue | undefined;
  /** Writes of devices are recorded: leaves that were written to, by their first frame of IOVA. */
  tracking = false;
  readonly written = new Set<number>();
  /** Attachments: of devices, and of PASIDs. */
  attached = 0;

  constructor(
    id: number,
    space: Ioas,
    options: {
      automatic: boolean;
      dirty: boolean;
      huge: boolean;
      pasid: boolean;
      nests: boolean;
      fault?: FaultQueue | undefined;
    },
  ) {
    this.id = id;
    this.space = space;
    this.fault = options.fault;
    this.automatic = options.automatic;
    this.dirty = options.dirty;
    this.pasidCompatible = options.pasid;
    this.nests = options.nests;
    this.granule = options.huge ? 4096n : 2048n;
    this.pageSizes = options.huge ? 0x10_1000n : 2n ** 37n - 2n ** 11n;
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
  /** What it was made through. */
  readonly viommu: Viommu | undefined;
  readonly pasidCompatible: boolean;
  readonly automatic = false;
  readonly dirty = false;
  readonly cache: number[];
  readonly fault: FaultQueue | undefined;
  attached = 0;

  constructor(
    id: number,
    parent: Hwpt,
    options: {
      pasid: boolean;
      value: number;
      fault: FaultQueue | undefined;
      viommu: Viommu | undefined;
    },
  ) {
    this.id = id;
    this.parent = parent;
    const { pasid, value, fault } = options;
    this.viommu = options.viommu;
    this.pasidCompatible = pasid;
    this.cache = [value, value, value, value];
    this.fault = fault;
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
  /** Tables of guests that were made through it. */
  nested = 0;
  readonly eventQueues: EventQueue[] = [];
  /** By their index. */
  readonly hwQueues: (HwQueue | undefined)[] = [];
  /** Where its pages are in the descriptor, if it shares any, what they begin with, and how often they are mapped. */
  readonly offset: bigint | undefined;
  readonly word: number;
  maps = 0;

  constructor(id: number, parent: Hwpt, options: { offset: bigint | undefined; word: number }) {
    this.id = id;
    this.parent = parent;
    this.offset = options.offset;
    this.word = options.word;
  }

  get users(): number {
    const queues = this.eventQueues.length + this.hwQueues.filter((queue) => queue).length;
    return 1 + this.devices.size + this.nested + queues + this.maps;
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

/** One attachment, from its attach or replace to its end: what a fault leads back to. */
export interface Handle {
  readonly device: Device;
  readonly pasid: number;
}

/** Devices that share a domain. */
export class Group {
  /** All devices, bound or not. */
  readonly members: Device[] = [];
  /** The table in force for all of them, and which of them attached it. */
  hwpt: Table | undefined = undefined;
  readonly attached = new Set<Device>();
  /** The tables of PASIDs, and the devices that attached them. */
  readonly pasids = new Map<number, Table>();
  readonly pasidDevices = new Map<number, Set<Device>>();
  /** The attachments in force by PASID; 0: that of requests without. */
  readonly handles = new Map<number, Handle>();
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
  /** The virtual IOMMU of the table it is in, and what the guest called it when it was put there; 0: nothing. */
  viommu: Viommu | undefined = undefined;
  virtualId = 0n;
  readonly cache: number[] = [0xbaddad, 0xbaddad, 0xbaddad, 0xbaddad];
  /** It is a virtual function, whose faults are its physical function's too. */
  readonly sharesFaults: boolean;
  /** Taken out of the machine: answers do not find it any more. */
  isGone = false;
  /** Page requests that wait for the last one of their group. */
  partial: PageRequest[] = [];

  constructor(
    group: Group,
    options: {
      noDirty: boolean;
      reserved?: readonly Range[];
      pasids?: number;
      sharesFaults?: boolean;
    },
  ) {
    const { noDirty, reserved = [], pasids = 1, sharesFaults = false } = options;
    this.pasids = pasids;
    this.group = group;
    this.noDirty = noDirty;
    this.reserved = reserved;
    this.sharesFaults = sharesFaults;
    group.members.push(this);
  }

  /** Anything attached takes faults. */
  get faultsOn(): boolean {
    const { hwpt, pasids } = this.group;
    return [hwpt, ...pasids.values()].some((table) => table?.fault !== undefined);
  }

  /** PASIDs that it is attached at. */
  get ownPasids(): number[] {
    return [...this.group.pasidDevices]
      .filter(([, devices]) => devices.has(this))
      .map(([pasid]) => pasid);
  }

  get isAttached(): boolean {
    return this.group.attached.has(this);
  }

  get users(): number {
    return 2 + (this.isAttached ? 1 : 0) + this.ownPasids.length;
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
  /** Of a hardware queue: no unmap takes what it holds. */
  readonly locks: boolean;

  constructor(id: number, space: Ioas, pins: boolean, locks = false) {
    this.id = id;
    this.space = space;
    this.pins = pins;
    this.locks = locks;
  }
}

export type Object_ =
  Ioas | Table | FaultQueue | Viommu | Vdevice | EventQueue | HwQueue | Device | Mock | Access;

/** What a descriptor stands for. */
export type Open =
  | { readonly kind: 'iommufd' }
  | File
  | DmaBuf
  | Access
  | FaultQueue
  | EventQueue
  | { readonly kind: 'pipe' };

export interface Process {
  readonly mm: Mm;
  readonly user: User;
  readonly memlock: number;
  readonly ipcLock: boolean;
  readonly fds: Map<number, Open>;
}
