// SPDX-License-Identifier: Apache-2.0
/** Compares the whole observable state of the engine with the model's. */
import { MockPagingDomain } from '../../src/drivers/mock/mock_domain.ts';
import { MockDevice } from '../../src/drivers/mock/mock_device.ts';
import { MockNestedDomain } from '../../src/drivers/mock/mock_nested.ts';
import type { Table } from '../../src/generic_pt/table.ts';
import { NO_PASID } from '../../src/iommu/device.ts';
import { type Domain, Prot } from '../../src/iommu/domain.ts';
import { IommufdDevice } from '../../src/iommufd/device.ts';
import { HwPagetable, HwptPaging } from '../../src/iommufd/hw_pagetable.ts';
import { HwptNested } from '../../src/iommufd/hw_pagetable_nested.ts';
import { FaultQueue as EngineFaultQueue } from '../../src/iommufd/fault.ts';
import { Ioas as EngineIoas } from '../../src/iommufd/ioas.ts';
import { Vdevice as EngineVdevice } from '../../src/iommufd/vdevice.ts';
import { HwQueue as EngineHwQueue } from '../../src/iommufd/hw_queue.ts';
import { VeventQueue as EngineEventQueue } from '../../src/iommufd/veventq.ts';
import { Viommu as EngineViommu } from '../../src/iommufd/viommu.ts';
import type { IommufdObject } from '../../src/iommufd/objects.ts';
import { Poll } from '../../src/kernel/file.ts';
import type { Engine } from './engine.ts';
import { isSameMapped, type Leaf, leavesOf, type Snapshot, takeSnapshot } from './tables.ts';
import { HALF, type Page, PAGE } from './memory.ts';
import { EventQueue } from './events.ts';
import { type Answer, FaultQueue } from './faults.ts';
import { HwQueue } from './hw_queues.ts';
import { Device, Hwpt, Nested, Vdevice, Viommu } from './objects.ts';
import { type Area, Ioas, length, pageAt, type Range, type Source, translate } from './space.ts';
import type { World } from './world.ts';

/** Engine and model differ; the message says in what. */
export class Mismatch extends Error {}

function expectSame(what: string, found: unknown, expected: unknown): void {
  if (found !== expected)
    throw new Mismatch(
      `${what} is ${String(found)} in the engine, ${String(expected)} in the model`,
    );
}

export class Comparison {
  private readonly world: World;
  private readonly engine: Engine;
  private readonly snapshots = new Map<Table, Snapshot>();
  /** Failed calls that left tables behind in which nothing is mapped, or took such away. */
  emptyTables = 0;
  /** What `world.changes` was when translations and pins were compared last. */
  private seen = -1;

  constructor(world: World, engine: Engine) {
    this.world = world;
    this.engine = engine;
  }

  /** @param failed the step was to change nothing: tables must be the same byte for byte */
  check(failed: boolean): void {
    const changed = this.seen !== this.world.changes;
    this.seen = this.world.changes;
    this.checkObjects(changed);
    this.checkAccounts();
    this.checkAnswers();
    this.checkDevices();
    this.checkTables(changed, failed);
    const { warnings } = this.engine.mock.core;
    expectSame('the last warning', warnings.at(-1), undefined);
  }

  private checkObjects(changed: boolean): void {
    const found = [...this.engine.file.context.objects];
    const expected = this.world.sorted();
    const text = (objects: readonly { id: number }[], kind: (object: never) => string): string =>
      objects.map((object) => `${object.id} ${kind(object as never)}`).join(', ');
    if (
      found.length !== expected.length ||
      found.some(({ id }, index) => id !== expected[index]?.id)
    ) {
      expectSame(
        'the list of objects',
        text(found, (object: IommufdObject) => object.type),
        text(expected, (object: { kind: string }) => object.kind),
      );
    }
    for (const [index, object] of found.entries()) {
      const model = expected[index];
      if (!model) continue;
      const what = `object ${object.id} (${model.kind})`;
      expectSame(`the type of ${what}`, object.type, model.kind);
      expectSame(`users of ${what}`, object.users, model.users);
      if (object instanceof EngineIoas && model instanceof Ioas)
        this.checkSpace(object, model, changed);
      if (object instanceof HwptPaging && model instanceof Hwpt) {
        expectSame(`the IOAS of ${what}`, object.ioas.id, model.space.id);
        expectSame(`automatic of ${what}`, object.automatic, model.automatic);
        const { domain } = object;
        const isTracking = domain instanceof MockPagingDomain && domain.isTracking;
        expectSame(`dirty tracking of ${what}`, isTracking, model.tracking);
      }
      if (object instanceof HwPagetable && (model instanceof Hwpt || model instanceof Nested))
        expectSame(`the fault queue of ${what}`, object.fault?.id, model.fault?.id);
      if (object instanceof EngineFaultQueue && model instanceof FaultQueue) {
        const { queued, unanswered } = object.outstanding;
        expectSame(`faults to be read of ${what}`, queued, model.deliver.length);
        const isReadable = (object.pollEvents & Poll.IN) !== 0;
        expectSame(`what poll says of ${what}`, isReadable, model.deliver.length > 0);
        expectSame(`faults to be answered of ${what}`, unanswered, model.read.size);
      }
      if (object instanceof EngineViommu && model instanceof Viommu)
        expectSame(`the parent of ${what}`, object.parent.id, model.parent.id);
      if (object instanceof EngineEventQueue && model instanceof EventQueue) {
        const isReadable = (object.pollEvents & Poll.IN) !== 0;
        expectSame(`what poll says of ${what}`, isReadable, model.deliver.length > 0);
        expectSame(`the virtual IOMMU of ${what}`, object.viommu.id, model.viommu.id);
        expectSame(`the depth of ${what}`, object.depth, model.depth);
      }
      if (object instanceof EngineHwQueue && model instanceof HwQueue) {
        expectSame(`the address of ${what}`, object.baseAddress, model.iova);
        expectSame(`the length of ${what}`, object.length, model.length);
      }
      if (object instanceof EngineVdevice && model instanceof Vdevice) {
        expectSame(`the virtual IOMMU of ${what}`, object.viommu.id, model.viommu.id);
        expectSame(`the device of ${what}`, object.device.id, model.device.id);
        expectSame(`the virtual id of ${what}`, object.virtualId, model.virtualId);
      }
      if (object instanceof HwptNested && model instanceof Nested) {
        const { domain } = object;
        expectSame(`the parent of ${what}`, object.parent.id, model.parent.id);
        expectSame(`the virtual IOMMU of ${what}`, object.viommu?.id, model.viommu?.id);
        const cache = domain instanceof MockNestedDomain ? domain.iotlb.join(' ') : 'none';
        expectSame(`the cache of ${what}`, cache, model.cache.join(' '));
      }
    }
  }

  private checkSpace({ id, table }: EngineIoas, model: Ioas, changed: boolean): void {
    const what = `of IOAS ${id}`;
    expectSame(`alignment ${what}`, table.alignment, model.alignment);
    expectSame(`domains ${what}`, table.domains.length, model.hwpts.length);
    expectSame(`accesses ${what}`, table.accesses.size, model.accesses.length);
    expectSame(`largePagesDisabled ${what}`, table.largePagesDisabled, model.noLargePages);
    expectSame(`allowed ranges ${what}`, textOf(table.allowed), textOf(model.allowed));
    if (table.reserved.size !== model.reserved.length || changed)
      expectSame(`reserved ranges ${what}`, textOf(table.reserved), textOf(model.reserved));
    expectSame(`number of areas ${what}`, table.areas.size, model.areas.length);
    let index = 0;
    for (const area of table.areas) {
      const expected = model.areas[index++];
      if (!expected) return;
      const where = `the area at 0x${area.start.toString(16)} ${what}`;
      expectSame(`the start of ${where}`, area.start, expected.start);
      expectSame(`the end of ${where}`, area.last, expected.last);
      expectSame(`startByte of ${where}`, area.startByte, expected.startByte);
      const prot = (expected.readable ? Prot.READ : 0) | (expected.writable ? Prot.WRITE : 0);
      expectSame(`prot of ${where}`, area.prot & (Prot.READ | Prot.WRITE), prot);
      expectSame(`accesses of ${where}`, area.accesses, expected.pieces.size);
      expectSame(`filled of ${where}`, area.filled, model.filled);
      expectSame(`pages charged under ${where}`, area.pages.charged, expected.source.pinned.size);
      if (changed) this.checkPins(area.pages, expected.source, where);
    }
  }

  /** The pages that are pinned are the right ones, pinned as often as the model has it. */
  private checkPins(
    pages: { frames(first: number, last: number): { frame: number }[] },
    source: Source,
    where: string,
  ): void {
    const { memory } = this.engine.iommufd;
    for (const [index, page] of source.pinned) {
      const frame = pages.frames(index, index)[0]?.frame ?? -1;
      this.checkContent(frame, page, 0, `page ${index} of ${where}`);
      expectSame(`pins of page ${index} of ${where}`, memory.pinsOf(frame), page.pins);
    }
  }

  private readonly found = new Uint8Array(8);
  private readonly expected = new Uint8Array(8);

  private checkContent(frame: number, page: Page, half: number, what: string): void {
    const { found, expected } = this;
    if (!this.engine.iommufd.memory.read(frame, 0, found))
      throw new Mismatch(`${what}: frame 0x${frame.toString(16)} can not be read`);
    page.read(half * HALF, expected);
    for (let i = 0; i < 8; i++) {
      if (found[i] === expected[i]) continue;
      throw new Mismatch(`${what} shows ${found.join(' ')}, in the model ${expected.join(' ')}`);
    }
  }

  private readonly models = new WeakMap<object, Device>();

  /** What devices were answered in this step, in its order: each group of faults once (C13). */
  private checkAnswers(): void {
    const { engine, world } = this;
    const [found, expected] = [engine.answers, world.answers];
    engine.answers = [];
    world.answers = [];
    expectSame(
      'the answers to faults',
      found.map(textOfAnswer).join(', '),
      expected.map(textOfAnswer).join(', '),
    );
    for (const [index, { device }] of found.entries())
      if (this.models.get(device) !== expected[index]?.device)
        throw new Mismatch(`answer ${index} went to ${device.name}, which is the wrong device`);
    expectSame('spurious answers', engine.mock.core.spuriousPageResponses, 0);
  }

  /** Closing everything has answered the faults that were left, each once. */
  checkLastAnswers(): void {
    const { engine, world } = this;
    const text = (all: readonly Omit<Answer, 'device'>[]): string =>
      all.map(textOfAnswer).toSorted().join(', ');
    expectSame('the last answers to faults', text(engine.answers), text(world.answers));
    expectSame('spurious answers', engine.mock.core.spuriousPageResponses, 0);
  }

  private checkAccounts(): void {
    for (const by of [0, 1] as const) {
      const { mm } = this.engine.clients[by];
      const process = this.world.processes[by];
      expectSame(
        `locked pages of user ${by}`,
        this.engine.users[by].lockedPages,
        process.user.locked,
      );
      expectSame(`locked pages of process ${by}`, mm.locked.lockedPages, process.mm.locked);
      expectSame(`pinned pages of process ${by}`, mm.locked.pinnedPages, process.mm.pinned);
    }
  }

  /** Every device is in the domain of its group, and the group is owned as often as it has bound devices. */
  private checkDevices(): void {
    for (const object of this.engine.file.context.objects) {
      if (!(object instanceof IommufdDevice) || !(object.device instanceof MockDevice)) continue;
      const model = this.world.objects.get(object.id);
      if (model instanceof Device) this.checkDevice(object.device, model);
      if (model instanceof Device) this.checkPasids(object, model);
      const attachment = object.group.attachments.get(NO_PASID);
      if (model instanceof Device)
        expectSame(
          `devices attached beside ${object.id}`,
          attachment?.devices.size ?? 0,
          model.group.attached.size,
        );
    }
    expectSame('the number of devices', this.engine.devices.length, this.world.devices.length);
    for (const [index, { device }] of this.engine.devices.entries()) {
      const model = this.world.devices[index];
      if (model) this.checkDevice(device, model);
    }
  }

  /** Every PASID has the table of the model, in core too. */
  private checkPasids({ group, id }: IommufdDevice, model: Device): void {
    const { pasids } = model.group;
    const count = group.attachments.size - (group.attachments.has(NO_PASID) ? 1 : 0);
    expectSame(`the number of PASIDs of device ${id}`, count, pasids.size);
    for (const [pasid, hwpt] of pasids) {
      const what = `PASID ${pasid} of device ${id}`;
      const attachment = group.attachments.get(pasid);
      expectSame(`the table of ${what}`, attachment?.hwpt.id, hwpt.id);
      const devices = model.group.pasidDevices.get(pasid)?.size;
      expectSame(`devices attached at ${what}`, attachment?.devices.size, devices);
      if (group.group.domainAt(pasid) !== this.anyDomainOf(hwpt.id))
        throw new Mismatch(`core has another domain for ${what} than that of HWPT ${hwpt.id}`);
    }
  }

  private checkDevice(device: MockDevice, model: Device): void {
    const { hwpt } = model.group;
    const domain = hwpt ? this.anyDomainOf(hwpt.id) : this.engine.mock.ops.blockedDomain;
    if (device.domain !== domain)
      throw new Mismatch(
        `${device.name} is not in ${hwpt ? `the domain of HWPT ${hwpt.id}` : 'the blocked domain'}`,
      );
    const bound = model.group.members.filter(({ id }) => id !== 0).length;
    this.models.set(device, model);
    expectSame(`the cache of ${device.name}`, device.cache.join(' '), model.cache.join(' '));
    const viommu = device.viommu?.host;
    const id = viommu instanceof EngineViommu ? viommu.id : undefined;
    expectSame(`the virtual IOMMU of ${device.name}`, id, model.viommu?.id);
    expectSame(`what the guest calls ${device.name}`, device.virtualId, model.virtualId);
    expectSame(`faults of ${device.name} on`, device.faultParam !== undefined, model.faultsOn);
    const partial = device.faultParam?.partial.length ?? 0;
    expectSame(`partial requests of ${device.name}`, partial, model.partial.length);
    expectSame(`owners of the group of ${device.name}`, device.group?.ownerCount, bound);
  }

  /** The leaves of a table, read by us. */
  leaves({ id }: Hwpt): Leaf[] {
    return leavesOf(this.domainOf(id).table);
  }

  private anyDomainOf(id: number): Domain {
    for (const object of this.engine.file.context.objects)
      if (object.id === id && object instanceof HwPagetable) return object.domain;
    throw new Mismatch(`there is no table ${id}`);
  }

  private domainOf(id: number): MockPagingDomain {
    for (const object of this.engine.file.context.objects)
      if (
        object.id === id &&
        object instanceof HwptPaging &&
        object.domain instanceof MockPagingDomain
      )
        return object.domain;
    throw new Mismatch(`there is no paging table ${id}`);
  }

  private checkTables(changed: boolean, failed: boolean): void {
    let live = 0;
    const seen = new Set<Table>();
    for (const hwpt of this.world.of('HWPT_PAGING')) {
      const { table } = this.domainOf(hwpt.id);
      seen.add(table);
      const before = this.snapshots.get(table);
      const now = takeSnapshot(table, before);
      this.snapshots.set(table, now);
      if (failed && before && now !== before) {
        if (!isSameMapped(before, now))
          throw new Mismatch(`the failed call changed the bytes of the tables of HWPT ${hwpt.id}`);
        this.emptyTables++;
      }
      if (changed || now !== before) this.checkTranslations(hwpt, table);
      live += now.tables.size * (PAGE / HALF);
    }
    for (const table of this.snapshots.keys()) if (!seen.has(table)) this.snapshots.delete(table);
    expectSame('the number of frames that tables take', this.engine.mock.ram.liveFrames, live);
  }

  private checkTranslations(hwpt: Hwpt, table: Table): void {
    const leaves = leavesOf(table);
    let at = 0;
    let into = 0;
    for (const area of hwpt.space.areas) {
      if (area.source.dead) continue;
      const frames = Number(length(area) / BigInt(HALF));
      const prot = (area.readable ? Prot.READ : 0) | (area.writable ? Prot.WRITE : 0);
      for (let done = 0; done < frames; done++) {
        const iova = area.start + BigInt(done * HALF);
        const leaf = leaves[at];
        const where = `iova 0x${iova.toString(16)} in HWPT ${hwpt.id}`;
        if (!leaf || BigInt(leaf.iova + into) * BigInt(HALF) !== iova)
          throw new Mismatch(`${where} is not mapped`);
        if (into === 0 && hwpt.space.noLargePages && leaf.frames > PAGE / HALF)
          throw new Mismatch(
            `${where} has an entry of ${leaf.frames} frames though large pages are off`,
          );
        expectSame(`prot of ${where}`, leaf.prot, prot);
        if (into === 0)
          expectSame(`written to at ${where}`, leaf.dirty, hwpt.written.has(leaf.iova));
        this.checkTranslation(area, iova, leaf.frame + into, where);
        if (++into < leaf.frames) continue;
        into = 0;
        at++;
      }
    }
    const rest = leaves[at];
    if (rest) {
      const where = ((rest.iova + into) * HALF).toString(16);
      throw new Mismatch(`iova 0x${where} is mapped in HWPT ${hwpt.id}, and in no area`);
    }
  }

  private checkTranslation(area: Area, iova: bigint, frame: number, where: string): void {
    const found = translate(area, iova);
    if (!found) throw new Mismatch(`${where} is mapped, in the model it is revoked`);
    this.checkContent(frame, found.page, found.half, `the ${pageAt(area, iova)}th page, ${where}`);
  }
}

const textOfAnswer = ({ pasid, grpid, code }: Omit<Answer, 'device'>): string =>
  `PASID ${pasid} group ${grpid}: ${code}`;

/** Ranges in order, as text: multisets that are the same have the same text. */
function textOf(ranges: Iterable<Range>): string {
  return [...ranges]
    .map(({ start, last }) => `${start.toString(16).padStart(16, '0')}-${last.toString(16)}`)
    .toSorted((a, b) => (a < b ? -1 : 1))
    .join(' ');
}
