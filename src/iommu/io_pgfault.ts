// SPDX-License-Identifier: Apache-2.0
/** Page faults of devices: from the driver's report to the answer (Linux's drivers/iommu/io-pgfault.c). */
import { Errno } from '../base/errno.ts';
import type { Timer } from '../sim/clock.ts';
import { type Body, inOneStep, until } from '../sim/task.ts';
import { attachHandleAt } from './attach.ts';
import type { IommuCore } from './core.ts';
import { type Device, NO_PASID } from './device.ts';
import { DomainType } from './domain.ts';
import {
  type FaultHandler,
  type PageRequest,
  PageRequestFlags,
  type PageResponse,
  PageResponseCode,
} from './fault.ts';
import type { FaultRegistration } from './fault_registration.ts';
import type { AttachHandle } from './handle.ts';

/**
 * What core keeps of a device whose faults are on. A device whose faults are turned on again gets another: answers from the life
 * before do not match it (C8).
 */
export class FaultParam {
  readonly device: Device;
  readonly queue: IopfQueue;
  /** Requests whose group is not complete, oldest first. */
  partial: PageRequest[] = [];
  /** Groups that no handler has taken over: to be answered here when faults are turned off. */
  readonly pending = new Set<IopfGroup>();
  /** All groups without an answer, those included that handlers have. */
  readonly unanswered = new Set<IopfGroup>();

  constructor(device: Device, queue: IopfQueue) {
    this.device = device;
    this.queue = queue;
  }

  /** Takes the incomplete requests of a group out of the list, oldest first. */
  takePartial(grpid: number): PageRequest[] {
    const taken = this.partial.filter((request) => request.grpid === grpid);
    this.partial = this.partial.filter((request) => request.grpid !== grpid);
    return taken;
  }
}

/** Where the faults of an id go: through an attachment to its domain's handler, or to one that was registered on the device (C12). */
export interface FaultWay {
  readonly handler: FaultHandler;
  /** The attachment (C2). */
  readonly handle?: AttachHandle | undefined;
  readonly registration?: FaultRegistration | undefined;
}

/** Page requests that are answered together, complete with the last one. Exactly one answer goes to the device (C13). */
export class IopfGroup {
  readonly param: FaultParam;
  /** In the order in which they came; the last of them completed the group. */
  readonly requests: readonly PageRequest[];
  readonly last: PageRequest;
  readonly way: FaultWay;
  /** For the handler: what its user knows the group by. */
  cookie = 0;
  /** What a user sees in place of the hardware's private data, where it is shown any (C9). */
  token: bigint | undefined = undefined;
  private timer: Timer | undefined;

  constructor(
    param: FaultParam,
    partial: readonly PageRequest[],
    last: PageRequest,
    way: FaultWay,
  ) {
    this.param = param;
    this.requests = [...partial, last];
    this.last = last;
    this.way = way;
    param.pending.add(this);
    param.unanswered.add(this);
    (way.handle ?? way.registration)?.faults.add(this);
  }

  get device(): Device {
    return this.param.device;
  }

  /** The attachment that it came through (C2); undefined where its handler was registered on the device. */
  get handle(): AttachHandle | undefined {
    return this.way.handle;
  }

  get isAnswered(): boolean {
    return !this.param.unanswered.has(this);
  }

  /** The handler answers for it from here on, also when the device's faults are turned off. */
  dequeue(): void {
    this.param.pending.delete(this);
  }

  /**
   * Answers the device. False where the group has its answer: the second goes nowhere, and is counted as spurious. The answer counts as
   * given before the driver is called, which may let others run: no lock is held meanwhile.
   */
  respond(code: PageResponseCode): boolean {
    const { core } = this.param.queue;
    if (this.isAnswered) {
      core.spuriousPageResponses++;
      return false;
    }
    this.param.unanswered.delete(this);
    this.param.pending.delete(this);
    (this.way.handle ?? this.way.registration)?.faults.delete(this);
    if (this.timer) core.sim.clock.cancel(this.timer);
    answer(this.device, this.last, code);
    return true;
  }

  /** Core answers in the place of the handler, which forgets the group. Nothing where it has its answer. */
  end(code: PageResponseCode): void {
    if (this.isAnswered) return;
    this.respond(code);
    this.way.handler.answered?.(this);
  }

  /** Runs a handler's work on it beside whatever reported it; `flushDevice` waits for that. */
  work(name: string, body: Body): void {
    this.param.queue.work(this, name, body);
  }

  /** C10: unless it is answered in that many ns, it is answered INVALID. Timers only wake tasks. */
  startTimer(ns: number): void {
    const { core } = this.param.queue;
    this.timer = core.sim.clock.after(ns, () => {
      this.timer = undefined;
      const name = `time-out of page request group ${this.last.grpid}`;
      core.sim.spawn(
        name,
        inOneStep(() => timeOut(this)),
      );
    });
  }

  /** C8: the group index, the PASID where the request had one, the private data where the user has been shown any. */
  matches(response: PageResponse): boolean {
    const { flags, grpid, pasid, privateData } = this.last;
    if (response.grpid !== grpid) return false;
    if (flags & PageRequestFlags.PASID_VALID && response.pasid !== pasid) return false;
    if (this.way.registration) return response.privateData === this.token;
    return !(flags & PageRequestFlags.PRIVATE_DATA) || response.privateData === privateData;
  }
}

function timeOut(group: IopfGroup): void {
  if (group.isAnswered) return;
  group.param.queue.core.timedOutPageRequests++;
  group.end(PageResponseCode.INVALID);
}

/** A hardware queue of page requests, as core sees it: the devices that report into it. Counterpart of `struct iopf_queue`. */
export class IopfQueue {
  readonly core: IommuCore;
  private readonly params = new Set<FaultParam>();
  /** Groups that handlers are at work on. */
  private readonly working = new Set<IopfGroup>();

  constructor(core: IommuCore) {
    this.core = core;
  }

  /**
   * A driver turns a device's faults on (C1). 0, or -ENODEV (the driver can not answer), -EBUSY (they are on), -ENOMEM.
   */
  addDevice(device: Device): number {
    if (!device.iommu?.ops.pageResponse) return -Errno.ENODEV;
    if (device.faultParam) return -Errno.EBUSY;
    // Its memory is kept once it was there: the way back from a replace that another device refuses turns faults on again (B3).
    if (!device.hadFaults && this.core.allocFails()) return -Errno.ENOMEM;
    device.hadFaults = true;
    const param = new FaultParam(device, this);
    this.params.add(param);
    device.faultParam = param;
    // C3: page requests begin with a reset of their interface.
    device.pageRequestsPaused = false;
    return 0;
  }

  /**
   * A driver turns a device's faults off; its hardware queue holds none of them any more (C4). Requests of incomplete groups are
   * forgotten, groups that no handler has taken are answered INVALID.
   */
  removeDevice(device: Device): void {
    const { faultParam: param } = device;
    if (!param || param.queue !== this) {
      this.core.warn(`${device.name}: its faults are turned off, and were not on in this queue`);
      return;
    }
    param.partial = [];
    this.params.delete(param);
    device.faultParam = undefined;
    for (const group of [...param.pending]) group.end(PageResponseCode.INVALID);
  }

  /** The hardware queue has overflowed: last requests may be lost, so no incomplete group can be completed (C6). */
  discardPartial(): void {
    for (const param of this.params) param.partial = [];
  }

  /** See `IopfGroup.work`. */
  work(group: IopfGroup, name: string, body: Body): void {
    this.working.add(group);
    this.core.sim.spawn(`${name} ${group.device.name}`, this.runWork(group, body));
  }

  private *runWork(group: IopfGroup, body: Body): Body {
    try {
      yield* body;
    } finally {
      this.working.delete(group);
    }
  }

  /**
   * For drivers, before a domain or PASID is taken away: all faults reported before are with their handlers, and those that core's
   * handlers are at work on have their answer. 0, or -ENODEV where the device's faults are off.
   */
  flushDevice(device: Device): number {
    if (device.faultParam?.queue !== this) {
      this.core.warn(`${device.name}: its faults are flushed, and are not on in this queue`);
      return -Errno.ENODEV;
    }
    const { sim } = this.core;
    if (this.isFlushed(device)) return 0;
    sim.waitUntil(() => this.isFlushed(device), { what: `the page faults of ${device.name}` });
    return 0;
  }

  /** The same for a task to yield. */
  flushed(device: Device): ReturnType<typeof until> {
    return until(`the page faults of ${device.name}`, () => this.isFlushed(device));
  }

  private isFlushed(device: Device): boolean {
    for (const group of this.working)
      if (group.device === device && !group.isAnswered) return false;
    return true;
  }
}

function answer(
  device: Device,
  { pasid, grpid, privateData }: PageRequest,
  code: PageResponseCode,
): void {
  const data = privateData === undefined ? {} : { privateData };
  const own = device.group?.core.pageResponseFor(device, code) ?? code;
  device.iommu?.ops.pageResponse?.(device, { pasid, grpid, code: own, ...data });
}

/** The attachment that a request belongs to, where its domain takes faults; else the handler that was registered for its PASID. */
function findWay(device: Device, request: PageRequest): FaultWay | undefined {
  const { group } = device;
  if (!group) return undefined;
  const hasPasid = (request.flags & PageRequestFlags.PASID_VALID) !== 0;
  const id = hasPasid ? request.pasid : NO_PASID;
  let handle = attachHandleAt(group, id);
  // With a PASID table of the user's own, the faults of every PASID belong to the nested domain that holds the table.
  if (typeof handle === 'number' && hasPasid && device.iommu?.ops.userPasidTable)
    handle = attachHandleAt(group, NO_PASID, DomainType.NESTED);
  const handler = typeof handle === 'number' ? undefined : handle.domain?.faultHandler;
  if (typeof handle !== 'number' && handler) return { handle, handler };
  const registration = device.faultHandlers.get(id);
  return registration && { handler: registration, registration };
}

/**
 * A driver reports a page request. It waits for the last of its group, with which the group goes to the handler of the domain, or of the
 * device; a driver never answers itself (C13). Nobody else runs before it is delivered: a detach meanwhile could not drain it (C4).
 * @returns 0: it waits, is with a handler, or has been answered FAILURE because the handler could not take it; -EINVAL: nobody handles
 * faults there, answered INVALID; -ENOMEM: a request that is not the last was lost
 */
export function reportDeviceFault(device: Device, request: PageRequest): number {
  const { faultParam: param } = device;
  const isLast = (request.flags & PageRequestFlags.LAST_PAGE) !== 0;
  const way = device.pageRequestsPaused ? undefined : findWay(device, request);
  if (!way || !param) {
    if (way)
      device.group?.core.warn(
        `${device.name}: a fault-capable domain is attached and faults are off`,
      );
    param?.takePartial(request.grpid);
    // The answer is the group's, so it waits for the last request.
    if (isLast) answer(device, request, PageResponseCode.INVALID);
    return -Errno.EINVAL;
  }
  const { core } = param.queue;
  if (!isLast) {
    if (core.allocFails()) return -Errno.ENOMEM;
    param.partial.push(request);
    return 0;
  }
  const group = new IopfGroup(param, param.takePartial(request.grpid), request, way);
  // Linux makes the group first and can only answer where there is no memory for it.
  if (core.allocFails() || way.handler.handle(group) !== 0) group.respond(PageResponseCode.FAILURE);
  else if (core.pageResponseTimeout > 0 && !group.isAnswered)
    group.startTimer(core.pageResponseTimeout);
  return 0;
}

/**
 * Answers a request that the answer itself names, for users without a cookie of their own (C8). 0, or -EINVAL where no group of the
 * device waits for it: counted as spurious, and the device never sees it. Groups of a registered handler are answered through its
 * registration only, so that none is answered from a life before (C11).
 */
export function respondToDevice(device: Device, response: PageResponse): number {
  for (const group of device.faultParam?.unanswered ?? []) {
    if (!group.way.registration && group.matches(response))
      return group.respond(response.code) ? 0 : -Errno.EINVAL;
  }
  const { group } = device;
  if (group) group.core.spuriousPageResponses++;
  return -Errno.EINVAL;
}

/** C4: an attachment has ended, and all of its faults that are left are answered INVALID. */
export function endFaults(ended: AttachHandle): void {
  for (const group of [...ended.faults]) group.end(PageResponseCode.INVALID);
}
