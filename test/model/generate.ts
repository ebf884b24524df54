// SPDX-License-Identifier: Apache-2.0
/** Makes up steps: mostly sensible ones, seen from the model's state, and all kinds of bad ones. */
import { Prng } from '../../src/base/prng.ts';
import type { Setup, Step } from './commands.ts';
import { PAGE_N } from './draw.ts';
import { DrawVfio } from './draw_vfio.ts';
import { PAGE } from './memory.ts';
import { makesSense } from './sense.ts';
import {
  DEVICES,
  GUESTS,
  FAULTS,
  FIRST,
  DIRTY,
  FILES_ONLY,
  THEMES,
  VFIO,
  WEIGHTS,
} from './themes.ts';
import { type Device, Hwpt, Nested, Viommu } from './objects.ts';
import { LAST } from './space.ts';
import { FILES, type World } from './world.ts';

const isAttached = (device: Device): boolean => device.isAttached || device.ownPasids.length > 0;

/** Calls in which it shows who makes them. */
const FORKED: readonly Step['op'][] = [
  'map',
  'map_file',
  'vfio_map',
  'access_rw',
  'check_refs',
  'change_process',
];

export class Generator extends DrawVfio {
  private readonly weights: readonly (readonly [Step['op'], number])[];
  private readonly total: number;
  /** Sequences about devices have tables for PASIDs, which would seldom come together otherwise. */
  private readonly isAboutDevices: boolean;
  private readonly isAboutFaults: boolean;
  private readonly isAboutDirty: boolean;
  private readonly isAboutGuests: boolean;
  /** What it begins with. */
  private readonly first: readonly Step['op'][] | undefined;
  private readonly isAboutFiles: boolean;
  private count = 0;

  constructor(world: World, seed: number) {
    super(world, seed);
    // By chance: every tenth seed, whose fault points fail, shall have all themes too.
    const theme = THEMES[new Prng(seed ^ 0x7e3e).below(THEMES.length)] ?? [];
    this.isAboutDevices = theme === DEVICES;
    this.isAboutFaults = theme === FAULTS;
    this.isAboutDirty = theme === DIRTY;
    this.isAboutGuests = theme === GUESTS;
    this.wholePages = this.isAboutGuests || theme === VFIO;
    this.first = FIRST.get(theme);
    this.isAboutFiles = theme === FILES_ONLY;
    const often = this.isAboutDirty ? 5 : 3;
    const times = (op: string): number =>
      theme.some((prefix) => op.startsWith(prefix)) ? often : 1;
    this.weights = WEIGHTS.map(([op, weight]) => [op, weight * times(op)]);
    this.total = this.weights.reduce((sum, [, weight]) => sum + weight, 0);
  }

  /** What differs from sequence to sequence. */
  static setup(seed: number): Setup {
    const prng = new Prng(seed ^ 0x5e70);
    const limits = [Infinity, 200, 64, 24, 8] as const;
    const memlock = [limits[prng.below(5)] ?? Infinity, limits[prng.below(5)] ?? Infinity] as const;
    return { seed, memlock, ipcLock: prng.below(6) === 0 };
  }

  next(): Step {
    const first = this.count++;
    if (first === 0 && this.chance(2)) return { op: 'rlimit_mode', value: 1n };
    if (this.world.objects.size === 0) return { op: 'ioas_alloc' };
    let op = this.first?.[first] ?? this.draw();
    for (
      let tries = 0;
      tries < 8 && !makesSense(this.world, op, this.isAboutFiles) && !this.chance(40);
      tries++
    )
      op = this.draw();
    const step = this.make(op);
    if (FORKED.includes(op) && this.chance(12)) return { ...step, forked: true };
    return this.chance(40) ? { ...step, readOnly: true } : step;
  }

  private draw(): Step['op'] {
    let left = (this.prng.below(1 << 20) / (1 << 20)) * this.total;
    return this.weights.find(([, weight]) => (left -= weight) < 0)?.[0] ?? 'ioas_alloc';
  }

  /** A map of a DMA-buf that the largest leaves fit in. */
  private largeMap(): Step {
    const buffers = [...this.world.processes[0].fds].filter(([, { kind }]) => kind === 'dmabuf');
    const [fd = 0] = this.pick(buffers) ?? [];
    const length = BigInt(1 + this.below(2)) << 20n;
    const iova = (16n + BigInt(this.below(3))) << 20n;
    return { op: 'map_file', by: 0, ioas: this.ref(), flags: 7, fd: -fd, start: 0n, length, iova };
  }

  /** What to attach to: tables that take faults where the sequence is about those, else half the time one for PASIDs. */
  private target(): number {
    if (this.isAboutFaults && !this.chance(3))
      return this.table(({ fault }) => fault !== undefined);
    if (this.isAboutGuests && !this.chance(3))
      return this.table((each) => each instanceof Nested && each.viommu !== undefined);
    return this.chance(2) ? this.pasidTable() : this.ref();
  }

  /** A PASID of a device that may share a group, often one that is attached there; 0 is none. */
  private sharedPasid(index: number): number {
    if (this.chance(2)) return 0;
    const { devices } = this.world;
    const device = devices[index % Math.max(devices.length, 1)];
    if (!device || device.pasids === 1) return this.chance(20) ? 1 : 0;
    const attached = this.pick([...device.group.pasids.keys()]);
    return attached !== undefined && this.chance(2) ? attached : this.pasid();
  }

  private pasidTable(): number {
    const needsFault = this.isAboutFaults && !this.chance(3);
    return this.table(
      ({ pasidCompatible, fault }) => pasidCompatible && (fault !== undefined || !needsFault),
    );
  }

  /** The flag of a table that takes faults, or 0. */
  private wantsFaults(): number {
    const count = this.world.of('FAULT').length;
    if (this.isAboutFaults && count > 0) return this.chance(4) ? 0 : 4;
    return this.chance(count === 0 ? 30 : 3) ? 4 : 0;
  }

  private make(op: Step['op']): Step {
    switch (op) {
      case 'ioas_alloc':
        return { op };
      case 'destroy':
        return { op, id: this.ref() };
      case 'map':
        return {
          op,
          by: this.by(),
          ioas: this.ref(),
          flags: this.flags(),
          va: this.va(),
          length: this.bytes(),
          iova: this.iova(),
        };
      case 'map_file': {
        if (this.isAboutDirty && this.chance(2)) return this.largeMap();
        const start = BigInt(this.below(8)) * PAGE_N + (this.chance(10) ? 2048n : 0n);
        const fd = this.chance(20) ? -(3 + this.below(8)) : this.below(16);
        const length = this.bytes();
        return {
          op,
          by: this.by(),
          ioas: this.ref(),
          flags: this.flags(),
          fd,
          start,
          length,
          iova: this.iova(),
        };
      }
      case 'unmap': {
        const ioas = this.ref();
        if (this.chance(60)) return { op, ioas, iova: 0n, length: LAST };
        return { op, ioas, ...this.range(ioas, 80) };
      }
      case 'copy': {
        const source = this.ref();
        const { iova: from, length } = this.range(source, 40);
        return {
          op,
          source,
          ioas: this.ref(),
          flags: this.flags(),
          length,
          from,
          iova: this.iova(),
        };
      }
      case 'allow': {
        const count = this.pick([0, 1, 1, 2, 3]) ?? 0;
        const range = (): [bigint, bigint] => {
          const start = this.iova();
          return [start, start + this.bytes() * 8n];
        };
        const clip = (value: bigint): bigint => BigInt.asUintN(64, value);
        const ranges = Array.from({ length: count }, range);
        return { op, ioas: this.ref(), ranges: ranges.map(([a, b]) => [clip(a), clip(b)]) };
      }
      case 'ranges':
        return { op, ioas: this.ref(), room: this.pick([0, 1, 4, 64]) ?? 64 };
      case 'huge_pages': {
        const value = this.pick([undefined, 0n, 0n, 1n, 1n, 2n]);
        return { op, ioas: this.ref(), ...(value === undefined ? {} : { value }) };
      }
      case 'rlimit_mode':
        return { op, ...(this.chance(2) ? {} : { value: BigInt(this.below(3)) }) };
      case 'mock': {
        const usual = this.isAboutDirty ? [0, 4] : [0, 0, 1, 4, 4, 4, 5];
        const flags = this.chance(15) ? this.pick([2, 16]) : this.pick(usual);
        return { op, pt: this.target(), flags: flags ?? 0 };
      }
      case 'mock_replace':
        return { op, mock: this.ref(), pt: this.target() };
      case 'pasid_attach':
      case 'pasid_replace':
        return { op, mock: this.mock(), pasid: this.pasid(), pt: this.pasidTable() };
      case 'pasid_detach':
        return { op, mock: this.mock(), pasid: this.pasid() };
      case 'pasid_check':
        return { op, mock: this.mock(), pasid: this.pasid(), pt: this.pasidTable() };
      case 'hwpt_alloc': {
        const table = this.pick([undefined, undefined, undefined, 0, 1, 2]);
        const own = this.isAboutDevices && !this.chance(3);
        const faults = this.wantsFaults();
        let flags = own ? 8 : (this.pick([0, 1, 1, 2, 2, 8, 9, 10, 3, 16]) ?? 0);
        if (this.isAboutDirty && !this.chance(4)) flags = 2;
        if (this.isAboutGuests && !this.chance(4)) flags = 1;
        const plain = (this.isAboutDirty || this.isAboutGuests) && !this.chance(4);
        if (faults && !this.isAboutGuests && !this.chance(8)) flags &= 8; // others do not go with it
        if (!this.isAboutGuests) flags |= faults;
        // An IOAS, or nothing: a table to nest on is another matter.
        const pt = this.chance(50) ? -1000 : this.below(64);
        const fault = this.faultQueue();
        return {
          op,
          device: this.ref(),
          pt,
          flags,
          fault,
          ...(table === undefined || plain ? {} : { table }),
        };
      }
      case 'nested_alloc': {
        // Never an address space: that is another call.
        const tables = this.world
          .sorted()
          .filter(({ kind }) => kind.startsWith('HWPT') || kind === 'VIOMMU');
        const wanted = this.isAboutGuests && !this.chance(3);
        const parents = tables.filter(
          (each) => each instanceof Viommu || (!wanted && each instanceof Hwpt && each.nests),
        );
        const chosen = this.chance(8) ? undefined : this.pick(parents);
        const parent = chosen ? tables.indexOf(chosen) : this.below(64);
        const odd = this.isAboutGuests ? [0, 0, 8] : [0, 0, 0, 8, 8, 1, 2];
        const flags = (this.pick(odd) ?? 0) | this.wantsFaults();
        const good = this.isAboutGuests && !this.chance(6);
        const length = good ? 8 : (this.pick([4, 4, 8, 8, 8, 0, 3, 12]) ?? 4);
        const fault = this.faultQueue();
        return { op, device: this.ref(), parent, flags, fault, length, value: this.below(3) };
      }
      case 'viommu_alloc':
      case 'vdevice_alloc':
      case 'veventq_alloc':
      case 'hw_queue_alloc':
      case 'trigger_vevent':
      case 'invalidate_devices':
      case 'check_cache':
      case 'shared_map':
      case 'shared_unmap':
        return this.makeGuest(op);
      case 'invalidate': {
        const entry = (): [number, number] => [
          this.chance(8) ? this.below(4) : 0,
          this.below(this.chance(6) ? 6 : 4),
        ];
        const entries = Array.from({ length: this.below(5) }, entry);
        return { op, hwpt: this.ref(), otherType: this.chance(20), entries };
      }
      case 'check_iotlb':
        return { op, hwpt: this.ref(), index: this.below(4), value: this.below(3) };
      case 'dirty_track':
      case 'dirty_mark':
      case 'dirty_read':
        return this.makeDirty(op);
      case 'vfio_ioas':
      case 'vfio_api':
      case 'vfio_extension':
      case 'vfio_set':
      case 'vfio_info':
      case 'vfio_map':
      case 'vfio_unmap':
        return this.makeVfio(op);
      case 'fault_alloc':
      case 'trigger_iopf':
      case 'page_request':
      case 'queue_read':
      case 'queue_write':
      case 'queue_poll':
        return this.makeQueue(op);
      case 'add_reserved':
        return { op, ioas: this.ref(), start: this.iova(), length: this.bytes() };
      default:
        return this.makeOther(op);
    }
  }

  /** Steps of accesses, clients and devices. */
  private makeOther(op: Exclude<Step['op'], 'ioas_alloc'>): Step {
    switch (op) {
      case 'access_create':
        return { op, by: this.by(), ioas: this.ref(), flags: this.pick([0, 1, 1, 1, 2]) ?? 1 };
      case 'access_pin': {
        const { by, fd, access } = this.access();
        const { iova, length } = this.range(-(access?.space.id ?? 1), 50);
        const from = access?.space.areaAt(iova)?.source.from;
        const va = this.chance(6) && from?.kind === 'user' ? BigInt(from.page) * PAGE_N : 0n;
        const huge = this.chance(60) ? 17n << 20n : length;
        const flags = this.chance(40) ? 2 : this.below(2);
        return { op, by, fd, flags, iova, length: huge, va };
      }
      case 'access_unpin': {
        const { by, fd, access } = this.access();
        const item = this.chance(6) ? undefined : this.pick(access?.items ?? []);
        return { op, by, fd, item: item?.id ?? this.below(6) };
      }
      case 'access_rw': {
        const { by, fd, access } = this.access();
        const area = this.pick(access?.space.areas ?? []);
        const start = area && !this.chance(10) ? area.start : this.iova();
        const iova = BigInt.asUintN(
          64,
          start + BigInt(this.below(3 * PAGE)) - (this.chance(4) ? 100n : 0n),
        );
        const length = this.chance(60)
          ? 17n << 20n
          : BigInt(this.below(this.chance(3) ? 3 * PAGE : 64));
        const flags = this.chance(40) ? 2 : (this.pick([0, 1, 4, 5]) ?? 0);
        return { op, by, fd, flags, iova, length, fill: 1 + this.below(254) };
      }
      case 'access_replace': {
        const { by, fd } = this.access();
        return { op, by, fd, ioas: this.ref() };
      }
      case 'close':
        return { op, by: this.by(), fd: this.below(64) };
      case 'check_map': {
        const tables = this.world.of('HWPT_PAGING');
        const hwpt = this.pick(tables.filter(({ space }) => space.areas.length > 0));
        const area = this.pick(hwpt?.space.areas ?? []);
        const from = area?.source.from;
        if (!hwpt || !area || from?.kind !== 'user' || this.chance(6))
          return {
            op,
            hwpt: this.ref(),
            iova: this.iova(),
            length: this.bytes() & 0xffffn,
            va: this.va(),
          };
        const va = BigInt(from.page) * PAGE_N + BigInt(area.startByte);
        return {
          op,
          hwpt: tables.indexOf(hwpt),
          iova: area.start,
          length: (area.last - area.start + 1n) & 0xffffn,
          va,
        };
      }
      case 'check_refs':
        return {
          op,
          by: this.by(),
          va: this.va(),
          length: this.pick([PAGE_N, PAGE_N, 2n * PAGE_N, 1n]) ?? PAGE_N,
          refs: this.below(3),
        };
      case 'dmabuf_get':
        return {
          op,
          by: this.by(),
          length: this.isAboutDirty
            ? 2 << 20
            : (this.pick([0, 1, PAGE, 4 * PAGE, 8 * PAGE, 8 * PAGE, 3 << 20]) ?? PAGE),
        };
      case 'dmabuf_revoke':
        return {
          op,
          by: this.by(),
          fd: this.chance(10) ? -4 : this.below(8),
          revoked: this.below(2),
        };
      case 'memory_limit':
        return { op, limit: this.pick([0, 11, 12, 4096]) ?? 12 };
      case 'change_process':
        return { op, by: this.chance(3) ? 0 : 1 };
      case 'mmap': {
        const { page, pages } = this.pages();
        const by = this.by();
        const writable = !this.chance(3);
        const index = this.below(4);
        const file = FILES[index];
        if (!file) return { op, by, page, pages, offset: 0, writable };
        const whole = Math.floor(file.size / PAGE);
        const offset = this.below(whole);
        return {
          op,
          by,
          page,
          pages: Math.min(pages, whole - offset),
          file: index,
          offset,
          writable,
        };
      }
      case 'munmap':
        return { op, by: this.by(), ...this.pages() };
      case 'mprotect': {
        const [readable, writable] = this.pick([
          [true, false],
          [true, true],
          [false, false],
        ] as const) ?? [true, true];
        return { op, by: this.by(), ...this.pages(), readable, writable };
      }
      case 'end':
        return { op, killed: this.chance(2) };
      case 'device_add': {
        const reserved: [bigint, bigint][] = [];
        if (this.chance(2)) {
          const start = this.iova() & ~0xfffn;
          if (start < 1n << 40n)
            reserved.push([start, start + PAGE_N * BigInt(1 + this.below(4)) - 1n]);
        }
        const sharesFaults = this.chance(8);
        const pasids = !this.chance(4);
        return {
          op,
          group: this.below(3),
          noDirty: this.chance(3),
          sharesFaults,
          pasids,
          reserved,
        };
      }
      case 'device_attach': {
        const device = this.device((each) => each.id !== 0 && !each.isAttached);
        const pasid = this.sharedPasid(device);
        return { op, device, pasid, pt: pasid === 0 ? this.target() : this.pasidTable() };
      }
      case 'device_replace': {
        const device = this.device(isAttached);
        const pasid = this.sharedPasid(device);
        return { op, device, pasid, pt: pasid === 0 ? this.target() : this.pasidTable() };
      }
      case 'device_remove':
      case 'device_bind':
        return { op, device: this.device(({ id }) => id === 0) };
      case 'device_unbind':
        return { op, device: this.device((each) => each.id !== 0 && !isAttached(each)) };
      case 'device_detach': {
        const device = this.device(isAttached);
        return { op, device, pasid: this.sharedPasid(device) };
      }
      default:
        throw new Error(`${op} is made elsewhere`);
    }
  }
}
