// SPDX-License-Identifier: Apache-2.0
/** For tests: a device that faults, what its client and a handler do about it, and what must hold whatever the order (C4 to C13). */
import { ErrnoError } from '../base/errno.ts';
import { PageRequestFlags, PageResponseCode } from '../iommu/fault.ts';
import {
  FaultFeature,
  type FaultRegistration,
  registerFaultHandler,
} from '../iommu/fault_registration.ts';
import type { IopfGroup } from '../iommu/io_pgfault.ts';
import type { Sim } from '../sim/sim.ts';
import { type Body, until } from '../sim/task.ts';
import { attachDevice, detachDevice, replaceDevice } from './change_pt.ts';
import type { DeviceFile } from '../kernel/file.ts';
import { type Asked, check, FaultOrderBook, type Group, GROUP_INDEX } from './fault_order_book.ts';
import { IommufdDevice } from './device.ts';
import { FaultQueue } from './fault.ts';
import type { Iommufd } from './iommufd.ts';
import type { LocalClient } from './local_client.ts';

const BUFFER = 0x20_0000n;
const [FAULT_WORDS, RESPONSE_BYTES] = [10, 8];
/** Words of a fault that is read. */
const At = { flags: 0, device: 1, address: 6, cookie: 9 } as const;
const [FAULT_ID_VALID, FOR_PASID] = [4, 8];
/** Where the registered handler is; the tables that take faults are attached without a PASID. */
const PASID = 7;
/** What hardware that has it adds to its requests. */
export const PRIVATE_DATA = 0x1234_5678_9abc_def0n;
const { SUCCESS } = PageResponseCode;

/** Where requests may be delivered, and since when (in ticks) they can have been asked. */
interface Life {
  readonly since: number;
  hasEnded: boolean;
}

interface ClientQueue {
  readonly file: DeviceFile;
  readonly queue: FaultQueue;
  readonly hwpt: number;
  attachment: Life | undefined;
  /** What the client has read and not answered, by cookie: one that is used again is the newer group's. */
  readonly read: Map<number, Group>;
}

interface Told {
  readonly life: FaultRegistration;
  readonly group: Group;
  /** In the place of the private data of the hardware, where that has any (C9). */
  readonly token: bigint | undefined;
}

export interface SentRequest {
  readonly group: number;
  /** Undefined: without one. */
  readonly pasid: number | undefined;
  readonly address: bigint;
  readonly isLast: boolean;
}

/** Hardware and its driver, as the rig needs them. */
export interface FaultHardware {
  readonly iommufd: Iommufd;
  readonly client: LocalClient;
  /** The device, bound. */
  readonly deviceId: number;
  /** The device sends; false where it may not. */
  send(request: SentRequest): boolean;
  /** Told of each answer that the device has. */
  onAnswer: (group: number, code: PageResponseCode) => void;
  /** Throws where anything is left after the client has gone. */
  checkGone(): void;
}

/**
 * A client with a device that is attached to the first of two tables that take faults, each with its queue, and at a PASID to a table that
 * does not; there a handler is registered.
 */
export class FaultOrderRig {
  readonly sim: Sim;
  readonly #hardware: FaultHardware;
  readonly #idev: IommufdDevice;
  readonly #one: ClientQueue;
  readonly #other: ClientQueue;
  readonly #book = new FaultOrderBook();
  #registration: FaultRegistration | undefined = undefined;
  /** When the last detach began, and the last end of a registration. */
  #detachedAt = 0;
  #unregisteredAt = 0;
  /** What the handler was told, in which life, and has not answered. */
  #told: readonly Told[] = [];

  constructor(sim: Sim, hardware: FaultHardware) {
    this.sim = sim;
    this.#hardware = hardware;
    hardware.onAnswer = (group, code) => this.#book.answered(group, code);
    const { client, deviceId } = hardware;
    const idev = client.file.context.objects.find(deviceId);
    check(idev instanceof IommufdDevice, 'no device');
    this.#idev = idev;
    client.process.mm.map(BUFFER, 0x1000);
    const { out_ioas_id } = client.call('IOMMU_IOAS_ALLOC', {});
    this.#one = this.#makeQueue(out_ioas_id);
    this.#other = this.#makeQueue(out_ioas_id);
    this.#attach();
    attachDevice(idev, PASID, this.#makeTable(out_ioas_id));
    this.register();
  }

  isAnswered(asked: Asked): boolean {
    return this.#book.isAnswered(asked);
  }

  /** The device sends one request, of a group that it completes or not. */
  send(asked: Asked, isLast: boolean): void {
    const pasid = asked === 'client' ? undefined : PASID;
    const request = { group: GROUP_INDEX[asked], pasid, isLast };
    if (!isLast) this.#hardware.send({ ...request, address: 0n });
    else this.#book.sent(asked, (address) => this.#hardware.send({ ...request, address }));
  }

  /** The client reads all there is. */
  read(): void {
    const { process } = this.#hardware.client;
    for (const { file, read } of [this.#one, this.#other]) {
      const bytes = file.read?.(process, BUFFER, 0x1000 - (0x1000 % (FAULT_WORDS * 4))) ?? 0;
      const words = new Uint32Array(Math.max(bytes, 0) / 4);
      process.mm.copyIn(BUFFER, new Uint8Array(words.buffer));
      for (let i = 0; i < words.length; i += FAULT_WORDS) {
        check(words[i + At.device] === this.#hardware.deviceId, 'a fault of another device (C2)');
        if (((words[i + At.flags] ?? 0) & PageRequestFlags.LAST_PAGE) === 0) continue;
        const group = this.#book.groupAt('client', words[i + At.address] ?? 0);
        read.set(words[i + At.cookie] ?? 0, group);
      }
    }
  }

  /** The client answers all that it has read, and the handler all that it was told: SUCCESS. */
  respond(): void {
    const { process } = this.#hardware.client;
    for (const { file, read } of [this.#one, this.#other]) {
      for (const [cookie, group] of read) {
        read.delete(cookie);
        this.#book.answer(group, () => {
          process.mm.copyOut(BUFFER, new Uint8Array(Uint32Array.of(cookie, SUCCESS).buffer));
          return file.write?.(process, BUFFER, RESPONSE_BYTES) === RESPONSE_BYTES;
        });
      }
    }
    const told = this.#told;
    this.#told = [];
    for (const { life, group, token } of told) {
      const isOver = life !== this.#registration;
      const { core } = this.#hardware.iommufd;
      const before = core.spuriousPageResponses;
      const named = { pasid: PASID, grpid: GROUP_INDEX.handler };
      const response = {
        ...named,
        code: SUCCESS,
        ...(token !== undefined && { privateData: token }),
      };
      this.#book.answer(group, () => life.respond(response) === 0);
      check(!isOver || !group.isTaken, 'an answer of a life before is taken (C11)');
      const isCounted = core.spuriousPageResponses > before;
      check(group.isTaken || isCounted, 'a spurious answer is not counted (C8)');
    }
  }

  *detach(): Body {
    yield* this.#whenFree(() => {
      const begun = this.#book.tick();
      this.#detachedAt = begun;
      detachDevice(this.#hardware.client.file.context, this.#idev, 0);
      this.#checkEnded(begun, [this.#one, this.#other], 'the detach (C4)');
    });
  }

  *attach(): Body {
    yield* this.#whenFree(() => this.#attach());
  }

  /** By the second table. */
  *replace(): Body {
    yield* this.#whenFree(() => {
      const begun = this.#book.tick();
      const isAttached = this.#idev.group.attachments.has(0);
      this.#other.attachment = { since: begun, hasEnded: false };
      try {
        replaceDevice(this.#idev, 0, this.#other.hwpt);
        check(isAttached, 'a replace of nothing (B4)');
        this.#checkEnded(begun, [this.#one], 'the replace (C5)');
      } catch (error) {
        if (!(error instanceof ErrnoError) || isAttached || error.code !== 'EINVAL') throw error;
        this.#other.attachment = undefined;
      }
    });
  }

  register(): void {
    const since = this.#unregisteredAt;
    const made = registerFaultHandler(this.#idev.device, PASID, {
      features: FaultFeature.PRIVATE_DATA,
      report: (records, life) => {
        const last = records.at(-1);
        check(last?.type === 'page request', 'no page request');
        const group = this.#book.groupAt('handler', Number(last.request.addr));
        check(!this.#registration || life === this.#registration, 'told after its end (C11)');
        check(group.sentAt > since, 'told of what was asked of a life before (C11)');
        const { privateData: token } = last.request;
        check(token !== PRIVATE_DATA, 'a user sees the private data (C9)');
        // Without it an index that is used again can not be told from the one before.
        const others = this.#told.filter((each) => token !== undefined || each.life !== life);
        this.#told = [...others, { life, group, token }];
        return 0;
      },
    });
    if (typeof made === 'number') throw new Error(`registering is refused: ${made}`);
    this.#registration = made;
  }

  unregister(): void {
    const begun = this.#book.tick();
    this.#unregisteredAt = begun;
    this.#registration?.unregister();
    this.#registration = undefined;
    this.#book.checkAnswered('handler', begun, 'the registration (C11)');
  }

  /** So much that what waits for an answer has waited too long. */
  passTime(ns: number): void {
    this.sim.clock.advanceBy(ns);
  }

  /** Everything ends: what must hold then. Throws. */
  checkEnd(): void {
    const { sim } = this;
    const { client, iommufd, checkGone } = this.#hardware;
    const { core } = iommufd;
    sim.settle();
    this.unregister();
    sim.run(this.detach());
    sim.settle();
    this.#book.checkEnd();
    const { device } = this.#idev;
    check(device.faultParam === undefined, 'faults are on, and nobody takes them (C1)');
    detachDevice(client.file.context, this.#idev, PASID);
    const { group } = device;
    client.process.exit();
    check(group?.pasids.size === 0 && core.ownershipViolations === 0, 'a PASID is left (B9)');
    check(core.warnings.length === 0, core.warnings.join());
    sim.assertNothingHeld();
    checkGone();
  }

  /** For the explorer: all that what follows depends on. */
  get state(): string {
    const { device, group } = this.#idev;
    const { faultParam: param } = device;
    const { groups } = this.#book;
    const nameOf = ({ last }: IopfGroup): string => `${last.pasid}@${last.addr}`;
    const core = [
      param?.partial.map(({ pasid, addr }) => `${pasid}@${addr}`),
      [...(param?.unanswered ?? [])].map(
        (each) => `${nameOf(each)} ${each['timer'] !== undefined}`,
      ),
      [...(param?.pending ?? [])].map(nameOf),
      group.attachments.get(0)?.hwpt.id,
    ];
    const queues = [this.#one, this.#other].map(({ queue, read, attachment }) => [
      queue['deliver'].map(nameOf),
      [...queue['responses'].entries()].map(([cookie, each]) => `${cookie} ${nameOf(each)}`),
      [...read].map(([cookie, each]) => `${cookie} ${groups.client.indexOf(each)}`),
      attachment?.hasEnded,
    ]);
    const told = this.#told.map(({ life, group: each, token }) => [
      life === this.#registration,
      groups.handler.indexOf(each),
      token !== undefined,
    ]);
    const since = [this.#one, this.#other].map(({ attachment }) => attachment?.since ?? 0);
    since.push(this.#detachedAt, this.#unregisteredAt);
    // Of ticks it matters only what was asked before what.
    const open = Object.values(groups).flatMap((all) =>
      all.filter(({ answer }) => answer === undefined),
    );
    const asked = open.map(({ sentAt }) => since.map((tick) => sentAt > tick));
    return JSON.stringify([
      core,
      queues,
      told,
      this.#registration !== undefined,
      asked,
      this.outcome,
    ]);
  }

  /** What happened, for comparing sets of orders. */
  get outcome(): string {
    const { core } = this.#hardware.iommufd;
    const counts = [core.spuriousPageResponses, core.timedOutPageRequests, core.warnings.length];
    return `${this.#book.outcome}; ${counts.join()}`;
  }

  #makeTable(pt_id: number, fault_id?: number): number {
    return this.#hardware.client.call('IOMMU_HWPT_ALLOC', {
      ...{ dev_id: this.#hardware.deviceId, pt_id },
      flags: FOR_PASID | (fault_id === undefined ? 0 : FAULT_ID_VALID),
      fault_id: fault_id ?? 0,
    }).out_hwpt_id;
  }

  #makeQueue(ioas: number): ClientQueue {
    const { client } = this.#hardware;
    const { out_fault_id, out_fault_fd } = client.call('IOMMU_FAULT_QUEUE_ALLOC', {});
    const open = client.process.get(out_fault_fd);
    const queue = client.file.context.objects.find(out_fault_id);
    check(open?.kind === 'device' && queue instanceof FaultQueue, 'no queue');
    const hwpt = this.#makeTable(ioas, out_fault_id);
    const made: ClientQueue = {
      file: open.file,
      queue,
      hwpt,
      attachment: undefined,
      read: new Map(),
    };
    const handle = queue.handle.bind(queue);
    queue.handle = (group) => {
      const { sentAt } = this.#book.groupAt('client', Number(group.last.addr));
      const { since, hasEnded } = made.attachment ?? { since: 0, hasEnded: true };
      check(!hasEnded, 'delivered to what is not attached any more (C4)');
      check(sentAt > since, 'delivered to what was attached after it was asked (C2, C4)');
      return handle(group);
    };
    return made;
  }

  #attach(): void {
    // What was asked while nothing was attached may be on its way still.
    this.#one.attachment = { since: this.#detachedAt, hasEnded: false };
    attachDevice(this.#idev, 0, this.#one.hwpt);
  }

  /** Runs `body` when the locks of an attachment are free, in the same step where they are. */
  *#whenFree(body: () => void): Body {
    const { mutex, group } = this.#idev.group;
    const isFree = (): boolean => !mutex.isLocked && !group.mutex.isLocked;
    if (!isFree()) yield until('the locks of the group', isFree);
    body();
  }

  #checkEnded(begun: number, queues: readonly ClientQueue[], what: string): void {
    for (const each of queues) {
      if (each.attachment) each.attachment.hasEnded = true;
      const { queued, unanswered } = each.queue.outstanding;
      check(queued === 0 && unanswered === 0, `a fault in the queue outlives ${what}`);
    }
    this.#book.checkAnswered('client', begun, what);
  }
}
