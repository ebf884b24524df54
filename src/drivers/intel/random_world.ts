// SPDX-License-Identifier: Apache-2.0
/**
 * For tests of the driver: random sequences of map, unmap, attach, replace and guests' own changes, on any hardware. What each access must
 * find is worked out from plain Maps; what is wrong is thrown, with all that was done.
 */
import { iommu_hwpt_vtd_s1, IOMMU_HWPT_DATA_VTD_S1 } from '../../abi/iommufd.ts';
import type { Prng } from '../../base/prng.ts';
import { type Device, NO_PASID } from '../../iommu/device.ts';
import { type Domain, IotlbGather } from '../../iommu/domain.ts';
import { DomainFlags } from '../../iommu/ops.ts';
import type { Hardware } from '../../kernel/hardware.ts';
import { fakeAts, type Rig, userDataOf } from './fake_rig.ts';
import { GuestTable, type Model, type Paging } from './guest_table.ts';
import type { NestedGuestDomain } from './nested_domain.ts';

const RW = 3;
const READ = 1;

/** Addresses that the sequences work on: pages with borders of tables inside, 2 MiB each side. */
const BASE_PAGE = 2 ** 18 - 512;
const PAGES = 1024;
/** Those of them that guests map. */
const GUEST_PAGES = 16;

/** A guest's table: its pages are the parent's memory. */
interface Guest {
  readonly name: string;
  readonly domain: NestedGuestDomain;
  readonly parent: Paging;
  readonly table: GuestTable;
}

type Attached = Paging | Guest | 'identity' | undefined;

/** Memory takes too little of an entry at once: the driver blocks it in between. */
function changesBothStages(from: Attached, to: Attached): boolean {
  const [a, b] = [from, to].map((what) => {
    if (typeof what !== 'object') return undefined;
    return 'table' in what
      ? { first: what, second: what.parent }
      : { first: what.domain.stage === 'first' ? what : undefined, second: undefined };
  });
  return a?.first !== undefined && b?.first !== undefined && a.second !== b.second;
}

/** Where an access leads, as a page; undefined where it is refused. `pasid` 0: without one. */
export type Access = (
  sourceId: number,
  page: number,
  isWrite: boolean,
  pasid: number,
) => number | undefined;

/** One way by which requests come: a device's, without PASID (0) or with one. */
interface Requester {
  readonly device: Device;
  readonly pasid: number;
}

export class World {
  readonly rig: Rig<Hardware>;
  readonly hardware: Access;
  readonly prng: Prng;
  readonly paging: Paging[] = [];
  readonly guests: Guest[] = [];
  readonly requesters: Requester[];
  /** What is attached to each; undefined is blocked. */
  readonly attached: Attached[];
  /** What has been done, for a failure's report. */
  readonly log: string[] = [];

  /** The devices have PASIDs (and caches of their own) where their unit has. */
  constructor(prng: Prng, rig: Rig<Hardware>, hardware: Access) {
    this.rig = rig;
    this.hardware = hardware;
    this.prng = prng;
    const { hasPasids } = rig.unit.caps;
    const devices = [0x0310, 0x0318, 0x0488].map((sid) =>
      this.rig.add(sid, { ats: fakeAts(1), ...(hasPasids && { pasidBits: 20 }) }),
    );
    this.requesters = devices.map((one) => ({ device: one, pasid: NO_PASID }));
    const [device, second] = devices;
    if (!device || !second) throw new Error('no device');
    if (hasPasids) {
      for (const pasid of [1, 0x4_3210]) this.requesters.push({ device, pasid });
      this.requesters.push({ device: second, pasid: 1 });
    }
    this.attached = this.requesters.map(() => undefined);
    const isScalable = this.rig.unit.caps.isScalable;
    const add = (name: string, flags: number): Paging => {
      const paging = { name, domain: this.rig.paging(device, flags), model: new Map() as Model };
      this.paging.push(paging);
      return paging;
    };
    add('one', 0);
    add('two', 0);
    if (!isScalable) return;
    const parents = [add('parent', DomainFlags.NEST_PARENT), add('far', DomainFlags.NEST_PARENT)];
    for (const [i, parent] of [parents[0], parents[0], parents[1]].entries()) {
      if (!parent) continue;
      const table = new GuestTable(
        this.rig.hardware.mem,
        parent,
        0x8_0000 + i * 0x1_0000,
        !this.rig.unit.caps.walksCoherently,
      );
      const bytes = new Uint8Array(iommu_hwpt_vtd_s1.size);
      const cmd = iommu_hwpt_vtd_s1.on(new DataView(bytes.buffer));
      cmd.addr_width = 48;
      cmd.pgtbl_addr = table.top;
      const data = userDataOf(IOMMU_HWPT_DATA_VTD_S1, bytes);
      const domain = this.rig.nested(device, parent.domain, data);
      this.guests.push({ name: `guest ${i}`, domain, parent, table });
      for (let page = 0; page < GUEST_PAGES; page++) {
        table.set(BASE_PAGE + page, BASE_PAGE + this.prng.below(PAGES), true);
      }
    }
    for (const parent of parents) {
      for (let page = BASE_PAGE; page < BASE_PAGE + PAGES; page += 64) {
        this.mapTo(parent, page, 64, 0x50_0000 + this.prng.below(4096), true);
      }
    }
  }

  step(): void {
    const { prng } = this;
    const kind = prng.below(10);
    if (kind < 3) this.map();
    else if (kind < 5) this.unmap();
    else if (kind < 7 && this.guests.length > 0) this.guestChanges();
    else this.attach();
    for (let i = 0; i < 6; i++) this.access();
  }

  map(): void {
    const { prng } = this;
    const paging = this.pick(this.paging);
    const isLarge = prng.below(4) === 0;
    const count = isLarge ? 512 : 1 + prng.below(40);
    const page = isLarge ? BASE_PAGE + 512 * prng.below(2) : BASE_PAGE + prng.below(PAGES - 40);
    const to = isLarge ? 0x40_0000 + 512 * prng.below(8) : 0x40_0000 + prng.below(4096);
    const writes = paging.domain.isNestingParent || prng.below(3) > 0;
    this.log.push(`map ${paging.name} ${page}+${count} to ${to} ${writes ? 'RW' : 'R'}`);
    this.mapTo(paging, page, count, to, writes);
  }

  mapTo(paging: Paging, page: number, count: number, to: number, writes: boolean): void {
    const rc = paging.domain.map(BigInt(page) << 12n, to * 2, count * 2, writes ? RW : READ);
    if (rc !== 0) return;
    for (let i = 0; i < count; i++) paging.model.set(page + i, { page: to + i, writes });
  }

  unmap(): void {
    const { prng } = this;
    const paging = this.pick(this.paging);
    // Whole tables of leaves among them, so that tables go.
    const isTable = prng.below(3) === 0;
    const page = BASE_PAGE + (isTable ? 512 * prng.below(2) : prng.below(PAGES));
    const count = isTable ? 512 : 1 + prng.below(60);
    this.log.push(`unmap ${paging.name} ${page}+${count}`);
    const watched = this.watch(page, count);
    const gone = (start: number, frames: number): void => {
      for (let i = 0; i < frames / 2; i++) paging.model.delete(start + i);
    };
    if (prng.below(2) === 0) {
      gone(page, paging.domain.unmap(BigInt(page) << 12n, count * 2));
      this.look(watched);
      return;
    }
    // Two at once, flushed once.
    const gather = new IotlbGather();
    const other = BASE_PAGE + prng.below(PAGES);
    for (const start of [page, other]) {
      gone(start, paging.domain.unmapGathered(BigInt(start) << 12n, count * 2, gather));
    }
    paging.domain.iotlbSync(gather);
    this.look(watched);
  }

  /** Pages of a range, and beside it, that every device now looks at: so that they are cached when they change. */
  watch(page: number, count: number): number[] {
    const pages = [page - 1, page, page + count - 1, page + count];
    for (let i = 0; i < 3; i++) pages.push(BASE_PAGE + this.prng.below(GUEST_PAGES));
    for (let i = 0; i < 4; i++) pages.push(page + this.prng.below(count));
    this.look(pages);
    return pages;
  }

  look(pages: readonly number[]): void {
    for (const [index] of this.requesters.entries()) {
      for (const page of pages) {
        this.accessTo(index, page, false);
        this.accessTo(index, page, true);
      }
    }
  }

  guestChanges(): void {
    const { prng } = this;
    const guest = this.pick(this.guests);
    const page = BASE_PAGE + prng.below(GUEST_PAGES);
    const watched = this.watch(page, 1);
    if (prng.below(3) === 0) guest.table.clear(page);
    else guest.table.set(page, BASE_PAGE + prng.below(PAGES), prng.below(3) > 0);
    this.log.push(`${guest.name} changes ${page}`);
    const [addr, npages] = prng.below(4) === 0 ? [0n, 2n ** 64n - 1n] : [BigInt(page) << 12n, 1n];
    const bytes = new Uint8Array(24);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, addr, true);
    view.setBigUint64(8, npages, true);
    const done = guest.domain.invalidate({
      type: 0,
      entryLength: 24,
      entryCount: 1,
      entry: () => userDataOf(0, bytes),
    });
    if (done.result !== 0 || done.handled !== 1) throw new Error(`invalidation: ${done.result}`);
    this.look(watched);
  }

  attach(): void {
    const index = this.prng.below(this.requesters.length);
    const requester = this.requesters[index];
    if (!requester) return;
    const { device, pasid } = requester;
    const { identityDomain } = this.rig.driver.ops;
    const choices = [...this.paging, ...this.guests, 'identity', undefined] as const;
    const next = this.pick(choices);
    const before = this.attached[index];
    const domainOf = (what: typeof next): Domain | undefined =>
      typeof what === 'string' ? identityDomain : what?.domain;
    const [old, domain] = [domainOf(before), domainOf(next)];
    const name = typeof next === 'object' ? next.name : (next ?? 'nothing');
    this.log.push(`requester ${index} (PASID ${pasid}) gets ${name}`);
    if (domain === old) return;
    const pages = Array.from({ length: 6 }, () => BASE_PAGE + this.prng.below(GUEST_PAGES));
    this.look(pages);
    const stop = domain && old ? this.keepAccessing(index, next, pages) : undefined;
    if (!domain) this.rig.detach(device, old ?? (identityDomain as Domain), pasid);
    else {
      const rc = old
        ? this.rig.replace(device, domain, pasid)
        : this.rig.attach(device, domain, pasid);
      if (rc !== 0) throw new Error(`attach: ${rc}\n${this.log.join('\n')}`);
    }
    this.attached[index] = next;
    stop?.();
    this.look(pages);
  }

  /**
   * The device goes on while it is replaced: what it finds is what the old or the new table says; where both have it, never nothing. The
   * others find what they always do.
   */
  keepAccessing(index: number, next: Attached, pages: readonly number[]): () => void {
    const { rig } = this;
    const before = this.attached[index];
    const mayBlock = changesBothStages(before, next);
    const check = (page: number, isWrite: boolean): void => {
      const olds = this.expectedOf(before, page, isWrite);
      const news = this.expectedOf(next, page, isWrite);
      const got = this.find(index, page, isWrite);
      if (got === olds || got === news || (got === undefined && mayBlock)) return;
      throw new Error(
        `in between page ${page}: ${got}, not ${olds} or ${news}\n${this.log.join('\n')}`,
      );
    };
    const device = { isDone: false };
    rig.sim.spawn(
      'a device',
      function* accesses() {
        for (let i = 0; !device.isDone; i++) {
          check(pages[i % pages.length] ?? 0, i % 2 === 0);
          yield 'an access';
        }
      },
      { daemon: true },
    );
    rig.sim.spawn(
      'the others',
      (function* others(world: World) {
        while (!device.isDone) {
          for (const [other] of world.requesters.entries()) {
            if (other === index) continue;
            for (const page of pages) world.accessTo(other, page, false);
          }
          yield 'an access';
        }
      })(this),
      { daemon: true },
    );
    return () => {
      device.isDone = true;
      rig.sim.settle();
    };
  }

  /** Where an access must lead: a page, or nowhere. */
  expected(index: number, page: number, isWrite: boolean): number | undefined {
    return this.expectedOf(this.attached[index], page, isWrite);
  }

  expectedOf(what: Attached, page: number, isWrite: boolean): number | undefined {
    if (what === undefined) return undefined;
    if (what === 'identity') return page;
    const allowed = (model: Model, at: number | undefined): number | undefined => {
      const found = at === undefined ? undefined : model.get(at);
      return found && (!isWrite || found.writes) ? found.page : undefined;
    };
    if ('model' in what) return allowed(what.model, page);
    return allowed(what.parent.model, allowed(what.table.model, page));
  }

  access(): void {
    const { prng } = this;
    const index = prng.below(this.requesters.length);
    const isGuest = typeof this.attached[index] === 'object' && 'table' in this.attached[index];
    this.accessTo(
      index,
      BASE_PAGE + prng.below(isGuest ? GUEST_PAGES : PAGES),
      prng.below(2) === 0,
    );
  }

  /** What an access finds: a page, or nothing. */
  find(index: number, page: number, isWrite: boolean): number | undefined {
    const requester = this.requesters[index];
    const info = requester ? this.rig.driver.infoOf(requester.device) : undefined;
    return this.hardware(info?.sourceId ?? 0, page, isWrite, requester?.pasid ?? NO_PASID);
  }

  accessTo(index: number, page: number, isWrite: boolean): void {
    const got = this.find(index, page, isWrite);
    const expected = this.expected(index, page, isWrite);
    if (got === expected) return;
    const what = `${isWrite ? 'write' : 'read'} of page ${page} by requester ${index}`;
    throw new Error(`${what}: ${got}, not ${expected}\n${this.log.join('\n')}`);
  }

  pick<T>(from: readonly T[]): T {
    for (const one of from.slice(this.prng.below(from.length))) return one;
    throw new Error('nothing to pick from');
  }
}
