// SPDX-License-Identifier: Apache-2.0
/** Page faults of devices: from the driver's report to the answer (Linux's drivers/iommu/io-pgfault.c). */
import { Errno } from '../base/errno.ts';
import { lockClass, Mutex } from '../sim/lock.ts';
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
import type { AttachHandle } from './handle.ts';

/** Taken by drivers under the lock of a group. */
const FAULT_PARAM_LOCK = lockClass('iommu_fault_param.lock', 520);

/**
 * What core keeps of a device whose faults are on. A device whose faults are turned on again gets another: answers from the life
 * before do not match it (C8).
 */
export class FaultParam {
  readonly device: Device;
  readonly queue: IopfQueue;
  readonly mutex: Mutex;
  /** Requests whose group is not complete, oldest first. */
  partial: PageRequest[] = [];
  /** Groups that no handler has taken over: to be answered here when faults are turned off. */
  readonly pending = new Set<IopfGroup>();
  /** All groups without an answer, those included that handlers have. */
  readonly unanswered = new Set<IopfGroup>();

  constructor(device: Device, queue: IopfQueue) {
    this.device = device;
    this.queue = queue;
    this.mutex = new Mutex(queue.core.sim, FAULT_PARAM_LOCK);
  }

  /** Takes the incomplete requests of a group out of the list, oldest first. */
  takePartial(grpid: number): PageRequest[] {
    const taken = this.partial.filter((request) => request.grpid === grpid);
    this.partial = this.partial.filter((request) => request.grpid !== grpid);
    return taken;
  }
}

/** Page requests that are answered together, complete with the last one. Exactly one answer goes to the device (C13). */
export class IopfGroup {
  readonly param: FaultParam;
  /** In the order in which they came; the last of them completed the group. */
  readonly requests: readonly PageRequest[];
  readonly last: PageRequest;
  /** The attachment that it came through (C2). */
  readonly handle: AttachHandle;
  /** For the handler: what its user knows the group by. */
  cookie = 0;

  constructor(
    param: FaultParam,
    partial: readonly PageRequest[],
    last: PageRequest,
    handle: AttachHandle,
  ) {
    this.param = param;
    this.requests = [...partial, last];
    this.last = last;
    this.handle = handle;
    param.pending.add(this);
    param.unanswered.add(this);
  }

  get device(): Device {
    return this.param.device;
  }

  /** The handler answers for it from here on, also when the device's faults are turned off. */
  dequeue(): void {
    this.param.pending.delete(this);
  }

  /** Answers the device. False where the group has its answer: the second goes nowhere, and is counted as spurious. */
  respond(code: PageResponseCode): boolean {
    const { param } = this;
    const { core } = param.queue;
    if (!param.unanswered.has(this)) {
      core.spuriousPageResponses++;
      return false;
    }
    param.mutex.lock();
    try {
      answer(param.device, this.last, code);
      param.pending.delete(this);
      param.unanswered.delete(this);
    } finally {
      param.mutex.unlock();
    }
    return true;
  }

  /** C8: the group index, the PASID where the request had one, the private data where it had any. */
  matches(response: PageResponse): boolean {
    const { flags, grpid, pasid, privateData } = this.last;
    if (response.grpid !== grpid) return false;
    if (flags & PageRequestFlags.PASID_VALID && response.pasid !== pasid) return false;
    return !(flags & PageRequestFlags.PRIVATE_DATA) || response.privateData === privateData;
  }
}

/** A hardware queue of page requests, as core sees it: the devices that report into it. Counterpart of `struct iopf_queue`. */
export class IopfQueue {
  readonly core: IommuCore;
  private readonly params = new Set<FaultParam>();

  constructor(core: IommuCore) {
    this.core = core;
  }

  /**
   * A driver turns a device's faults on (C1). 0, or -ENODEV (the driver can not answer), -EBUSY (they are on), -ENOMEM.
   */
  addDevice(device: Device): number {
    if (!device.iommu?.ops.pageResponse) return -Errno.ENODEV;
    if (device.faultParam) return -Errno.EBUSY;
    if (this.core.allocFails()) return -Errno.ENOMEM;
    const param = new FaultParam(device, this);
    this.params.add(param);
    device.faultParam = param;
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
    for (const group of [...param.pending]) group.respond(PageResponseCode.INVALID);
    this.params.delete(param);
    device.faultParam = undefined;
  }

  /** The hardware queue has overflowed: last requests may be lost, so no incomplete group can be completed (C6). */
  discardPartial(): void {
    for (const param of this.params) param.partial = [];
  }

  /**
   * For drivers, before a domain or PASID is taken away: all faults reported before are with their handlers. They are as soon as they
   * are reported here, so this only checks. 0, or -ENODEV where the device's faults are off.
   */
  flushDevice(device: Device): number {
    if (device.faultParam?.queue === this) return 0;
    this.core.warn(`${device.name}: its faults are flushed, and are not on in this queue`);
    return -Errno.ENODEV;
  }
}

function answer(
  device: Device,
  { pasid, grpid, privateData }: PageRequest,
  code: PageResponseCode,
): void {
  const data = privateData === undefined ? {} : { privateData };
  device.iommu?.ops.pageResponse?.(device, { pasid, grpid, code, ...data });
}

/** The attachment that a request belongs to, where its domain takes faults. */
function findHandler(
  device: Device,
  request: PageRequest,
): { readonly handle: AttachHandle; readonly handler: FaultHandler } | undefined {
  const { group } = device;
  if (!group) return undefined;
  const hasPasid = (request.flags & PageRequestFlags.PASID_VALID) !== 0;
  let handle = attachHandleAt(group, hasPasid ? request.pasid : NO_PASID);
  // With a PASID table of the user's own, the faults of every PASID belong to the nested domain that holds the table.
  if (typeof handle === 'number' && hasPasid && device.iommu?.ops.userPasidTable)
    handle = attachHandleAt(group, NO_PASID, DomainType.NESTED);
  const handler = typeof handle === 'number' ? undefined : handle.domain?.faultHandler;
  return typeof handle !== 'number' && handler ? { handle, handler } : undefined;
}

/**
 * A driver reports a page request. It waits for the last of its group, with which the group goes to the handler of the domain; a
 * driver never answers itself (C13).
 * @returns 0: it waits, is with a handler, or has been answered FAILURE because the handler could not take it; -EINVAL: nobody handles
 * faults there, answered INVALID; -ENOMEM: a request that is not the last was lost
 */
export function reportDeviceFault(device: Device, request: PageRequest): number {
  const { faultParam: param } = device;
  const isLast = (request.flags & PageRequestFlags.LAST_PAGE) !== 0;
  const found = findHandler(device, request);
  if (!found || !param) {
    if (found)
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
  const group = new IopfGroup(param, param.takePartial(request.grpid), request, found.handle);
  // Linux makes the group first and can only answer where there is no memory for it.
  if (core.allocFails() || found.handler.handle(group) !== 0) {
    group.respond(PageResponseCode.FAILURE);
  }
  return 0;
}

/**
 * Answers a request that the answer itself names, for users without a cookie of their own (C8). 0, or -EINVAL where no group of the
 * device waits for it: counted as spurious, and the device never sees it.
 */
export function respondToDevice(device: Device, response: PageResponse): number {
  for (const group of device.faultParam?.unanswered ?? []) {
    if (group.matches(response)) return group.respond(response.code) ? 0 : -Errno.EINVAL;
  }
  const { group } = device;
  if (group) group.core.spuriousPageResponses++;
  return -Errno.EINVAL;
}
