// SPDX-License-Identifier: Apache-2.0
/** The model as a whole: two processes, three files, the objects by id, the devices. */
import type { By, Ref, Setup } from './commands.ts';
import type { EventQueue } from './events.ts';
import type { Answer, FaultQueue } from './faults.ts';
import type { HwQueue } from './hw_queues.ts';
import {
  type AccountMode,
  type File,
  HALF,
  Mm,
  PageMaker,
  PAGE,
  type Payer,
  refuse,
  type User,
} from './memory.ts';
import {
  type Access,
  type Device,
  type Group,
  type Hwpt,
  type Mock,
  type Nested,
  type Object_,
  type Open,
  type Process,
  type Vdevice,
  type Viommu,
} from './objects.ts';
import { Pinning, settle } from './pins.ts';
import { type Area, type DmaBuf, type Ioas, type Range } from './space.ts';
import type { Leaf } from './tables.ts';

/** Windows of client memory, in page numbers; commands map, unmap and protect inside them. */
export const WINDOW = { first: 0x100, pages: 96, shared: 64 } as const;
/** The files that both processes have open: descriptors 4 to 6 of the first, 3 to 5 of the other. */
export const FILES = [
  { size: 24 * PAGE, pinnable: true },
  { size: 4 * PAGE + 2048, pinnable: true },
  { size: 8 * PAGE, pinnable: false },
] as const;
export const FIRST_FD = 3;

/** An id, and a descriptor, that is never there. */
export const MISSING = 9999;

type Kinds = {
  IOAS: Ioas;
  HWPT_PAGING: Hwpt;
  HWPT_NESTED: Nested;
  VIOMMU: Viommu;
  VDEVICE: Vdevice;
  FAULT: FaultQueue;
  VEVENTQ: EventQueue;
  HW_QUEUE: HwQueue;
  DEVICE: Device;
  SELFTEST: Mock;
  ACCESS: Access;
};

export class World {
  readonly maker = new PageMaker();
  readonly files: readonly File[];
  readonly processes: [Process, Process];
  readonly objects = new Map<number, Object_>();
  /** Ids that nothing gets any more. */
  readonly tombstones = new Set<number>();
  readonly groups: Group[] = [];
  /** The devices of `device_*` commands, in order of creation. */
  readonly devices: Device[] = [];
  mode: Exclude<AccountMode, 'none'> = 'user';
  /** What stands in for VFIO's container. */
  vfioIoas: Ioas | undefined = undefined;
  /** Maps of pages that virtual IOMMUs share. */
  readonly maps: { readonly by: By; readonly owner: Viommu }[] = [];
  /** Answers to page faults that devices have got since they were looked at last. */
  answers: Answer[] = [];
  /** Counts what could have changed translations and pins, so that they are compared only then. */
  changes = 0;
  /** The leaves that the driver has made of a table's map, in order. */
  leaves: (hwpt: Hwpt) => readonly Leaf[] = () => [];
  private readonly setup: Setup;
  private readonly users: readonly [User, User] = [
    { uid: 1000, locked: 0 },
    { uid: 1001, locked: 0 },
  ];

  constructor(setup: Setup) {
    this.setup = setup;
    this.files = FILES.map(({ size, pinnable }) => ({
      kind: 'file',
      size,
      pinnable,
      pages: this.maker.make(Math.ceil(size / PAGE)),
    }));
    this.processes = [this.newProcess(0), this.newProcess(1)];
  }

  newProcess(by: By): Process {
    const fds = new Map<number, Open>();
    const open: Open[] = [
      ...(by === 0 ? [{ kind: 'iommufd' } as const] : []),
      ...this.files,
      { kind: 'pipe' },
    ];
    for (const file of open) fds.set(FIRST_FD + fds.size, file);
    const mm = new Mm();
    const process: Process = {
      mm,
      user: this.users[by],
      memlock: this.setup.memlock[by],
      ipcLock: this.setup.ipcLock,
      fds,
    };
    this.mapMemory(process, WINDOW.first, WINDOW.shared);
    this.mapMemory(process, WINDOW.first + WINDOW.shared, 16, { file: this.file(0), offset: 0 });
    return process;
  }

  file(index: number): File {
    return this.files[index] ?? refuse('no such file');
  }

  mapMemory(
    { mm }: Process,
    first: number,
    count: number,
    options: { file?: File; offset?: number; writable?: boolean } = {},
  ): void {
    const { file, offset = 0, writable = true } = options;
    const pages = file ? file.pages.slice(offset, offset + count) : this.maker.make(count);
    pages.forEach((page, index) =>
      mm.slots.set(first + index, { page, readable: true, writable, isPrivate: !file }),
    );
  }

  payer(by: By): Payer {
    const { mm, user, memlock } = this.processes[by];
    return { mm, user, memlock };
  }

  /** The n lowest free ids. */
  freeIds(count: number): number[] {
    const free: number[] = [];
    for (let id = 1; free.length < count; id++)
      if (!this.objects.has(id) && !this.tombstones.has(id)) free.push(id);
    return free;
  }

  freeId(): number {
    return this.freeIds(1)[0] ?? 0;
  }

  get<K extends keyof Kinds>(id: number, kind: K): Kinds[K] {
    const object = this.objects.get(id);
    return object?.kind === kind ? (object as Kinds[K]) : refuse('ENOENT');
  }

  /** Objects in order of their ids. */
  sorted(): Object_[] {
    return [...this.objects.values()].toSorted((a, b) => a.id - b.id);
  }

  of<K extends keyof Kinds>(kind: K): Kinds[K][] {
    return this.sorted().filter((object) => object.kind === kind) as Kinds[K][];
  }

  /** The id that a reference means now. */
  idOf(ref: Ref, ...kinds: (keyof Kinds)[]): number {
    if (ref < 0) return -ref;
    const all = this.sorted().filter(({ kind }) => kinds.length === 0 || kinds.includes(kind));
    return all[ref % all.length]?.id ?? MISSING;
  }

  /** The descriptor that a reference means now. */
  fdOf(ref: Ref, by: By, kinds: readonly string[]): number {
    if (ref < 0) return -ref;
    const all = [...this.processes[by].fds]
      .filter(([, open]) => kinds.includes(open.kind))
      .map(([fd]) => fd)
      .toSorted((a, b) => a - b);
    return all[ref % all.length] ?? MISSING;
  }

  install(by: By, open: Open): number {
    const { fds } = this.processes[by];
    let fd = FIRST_FD;
    while (fds.has(fd)) fd++;
    fds.set(fd, open);
    return fd;
  }

  /** Every address space's areas. */
  areas(): Area[] {
    return this.of('IOAS').flatMap(({ areas }) => areas);
  }

  /**
   * Throws where a domain can not join an address space, with nothing changed; the result makes it join.
   * A domain needs its alignment, its aperture and, as the first one, all pages pinned.
   */
  joining(space: Ioas, hwpt: Hwpt): () => void {
    const alignment = space.alignmentWith(hwpt.granule);
    if (alignment !== space.alignment) space.checkAlignment(alignment);
    const { start, last } = hwpt.aperture;
    const outside: Range[] = [];
    if (start > 0n) outside.push({ start: 0n, last: start - 1n });
    outside.push({ start: last + 1n, last: 2n ** 64n - 1n });
    for (const range of outside) space.checkReserve(range);
    const pinning = new Pinning();
    if (!space.filled) for (const area of space.areas) pinning.holdArea(area);
    return () => {
      this.changes++;
      pinning.commit();
      for (const range of outside) space.reserved.push({ ...range, owner: hwpt });
      space.hwpts.push(hwpt);
      this.objects.set(hwpt.id, hwpt);
    };
  }

  removeHwpt(hwpt: Hwpt): void {
    this.changes++;
    const { space } = hwpt;
    space.hwpts.splice(space.hwpts.indexOf(hwpt), 1);
    space.unreserve(hwpt);
    this.objects.delete(hwpt.id);
    if (!space.filled) for (const { source } of space.areas) settle(source);
  }

  removeArea(area: Area): void {
    this.changes++;
    const { space, source } = area;
    this.forgetWrites(area);
    space.areas = space.areas.filter((other) => other !== area);
    source.areas.delete(area);
    settle(source);
  }

  /** What is not mapped any more was not written to. */
  private forgetWrites({ space, start, last }: Area): void {
    for (const { written } of space.hwpts) {
      for (const frame of written) {
        const at = BigInt(frame) * BigInt(HALF);
        if (start <= at && at <= last) written.delete(frame);
      }
    }
  }

  /** Takes a DMA-buf back: maps of it stay, and are dead for good. */
  revoke(buffer: DmaBuf, revoked: boolean): void {
    this.changes++;
    buffer.revoked = revoked;
    for (const area of this.areas()) {
      const { source } = area;
      if (source.from.kind !== 'dmabuf' || source.from.buffer !== buffer) continue;
      source.dead = true;
      this.forgetWrites(area);
    }
  }
}
