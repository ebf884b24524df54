// SPDX-License-Identifier: Apache-2.0
/** Handlers of faults that are registered on a device, beside those of domains: the interface of 2018-2020 (C9, C11, C12). */
import { Errno } from '../base/errno.ts';
import { attachHandleAt } from './attach.ts';
import { type Device, NO_PASID } from './device.ts';
import {
  type FaultHandler,
  type PageRequest,
  PageRequestFlags,
  type PageResponse,
  PageResponseCode,
} from './fault.ts';
import type { FaultRecord, UnrecoverableFault } from './fault_record.ts';
import type { IopfGroup } from './io_pgfault.ts';

/** The id of reports that belong to no PASID: unrecoverable faults. */
export const UNRECOVERABLE_FAULTS = 0xffff_ffff;

/** What both sides must know of each other before it is used; bits. */
export const FaultFeature = {
  /** A token stands in for the hardware's private data in page requests, and comes back with the answer (C9). */
  PRIVATE_DATA: 1,
} as const;

/** What this side supports: a user looks before it asks for any. */
export const SUPPORTED_FAULT_FEATURES: number = FaultFeature.PRIVATE_DATA;

/** Who takes the reports. */
export interface FaultUser {
  /** Bits of {@link FaultFeature} that the user supports. */
  readonly features?: number;
  /**
   * Takes records: one, or those of a group of page requests, which it answers by `FaultRegistration.respond`. 0, or a negative errno:
   * core answers.
   */
  report(records: readonly FaultRecord[], registration: FaultRegistration): number;
}

/** One life of a handler of one id: what was reported in it is answered in it, or not by a user at all (C11). */
export class FaultRegistration implements FaultHandler {
  readonly device: Device;
  /** A PASID, 0 for requests without one, or {@link UNRECOVERABLE_FAULTS}. */
  readonly id: number;
  /** Page faults that it was told of and that have no answer yet. */
  readonly faults = new Set<IopfGroup>();
  readonly #user: FaultUser;
  readonly #features: number;
  #open = true;

  /** See {@link registerFaultHandler}. */
  constructor(device: Device, id: number, user: FaultUser) {
    this.device = device;
    this.id = id;
    this.#user = user;
    this.#features = user.features ?? 0;
  }

  handle(group: IopfGroup): number {
    const { core } = group.param.queue;
    const hasData = group.requests.some(({ flags }) => flags & PageRequestFlags.PRIVATE_DATA);
    if (hasData && (this.#features & FaultFeature.PRIVATE_DATA) !== 0)
      group.token = core.nextFaultToken();
    const records = group.requests.map((request) => ({
      type: 'page request' as const,
      request: shown(request, group.token),
    }));
    return this.#user.report(records, this);
  }

  /** For {@link reportUnrecoverableFault}. */
  reportUnrecoverable(fault: UnrecoverableFault): number {
    return this.#user.report([{ type: 'unrecoverable', fault }], this);
  }

  /**
   * The user answers a group, which the answer names (C8). 0, or -EINVAL where no group of this life waits for it: counted as spurious,
   * and the device never sees it.
   */
  respond(response: PageResponse): number {
    const group = [...this.faults].find((each) => each.matches(response));
    if (group) return group.respond(response.code) ? 0 : -Errno.EINVAL;
    const { core } = this.device.group ?? {};
    if (core) core.spuriousPageResponses++;
    return -Errno.EINVAL;
  }

  /** Ends this life: it never fails, and waits for no user. What is not answered is answered INVALID. */
  unregister(): void {
    if (!this.#open) return;
    this.#open = false;
    const { device, id } = this;
    device.faultHandlers.delete(id);
    for (const group of [...this.faults]) group.end(PageResponseCode.INVALID);
    // Requests that wait for the last of their group were this handler's (C6).
    const param = device.faultParam;
    if (param) param.partial = param.partial.filter((request) => idOf(request) !== id);
    if (id !== UNRECOVERABLE_FAULTS) device.iommu?.ops.disableFaults?.(device);
  }
}

/** A request as its user sees it: never with the hardware's data. */
function shown(request: PageRequest, token: bigint | undefined): PageRequest {
  const { privateData: _hidden, ...rest } = request;
  const hasData = (request.flags & PageRequestFlags.PRIVATE_DATA) !== 0;
  if (!hasData) return rest;
  if (token !== undefined) return { ...rest, privateData: token };
  return { ...rest, flags: rest.flags & ~PageRequestFlags.PRIVATE_DATA };
}

/** The id of the handler that a page request goes to. */
const idOf = ({ flags, pasid }: PageRequest): number =>
  (flags & PageRequestFlags.PASID_VALID) !== 0 ? pasid : NO_PASID;

/**
 * Registers a handler of a device's faults with an id that is unique on it (C12), and turns its page requests on. Or a negative errno:
 * -ENODEV (no IOMMU, or the device cannot fault), -EOPNOTSUPP (the driver turns them on for domains only), -EINVAL (no PASID of the device,
 * or a feature that is not supported), -EBUSY (the id has a handler, or a fault-capable domain is attached there), -ENOMEM.
 */
export function registerFaultHandler(
  device: Device,
  id: number,
  user: FaultUser,
): FaultRegistration | number {
  const { group } = device;
  const ops = device.iommu?.ops;
  if (!group || !ops) return -Errno.ENODEV;
  if (((user.features ?? 0) & ~SUPPORTED_FAULT_FEATURES) !== 0) return -Errno.EINVAL;
  const isPage = id !== UNRECOVERABLE_FAULTS;
  if (isPage && (id < 0 || id >= Math.max(1, device.maxPasids))) return -Errno.EINVAL;
  if (device.faultHandlers.has(id)) return -Errno.EBUSY;
  if (isPage) {
    const handle = attachHandleAt(group, id);
    if (typeof handle !== 'number' && handle.domain?.faultHandler) return -Errno.EBUSY;
    if (!(ops.canFault?.(device) ?? false)) return -Errno.ENODEV;
    const rc = ops.enableFaults?.(device) ?? -Errno.EOPNOTSUPP;
    if (rc !== 0) return rc;
  }
  const registration = new FaultRegistration(device, id, user);
  device.faultHandlers.set(id, registration);
  return registration;
}

/** A driver reports an access that its hardware refused for good. 0, -EINVAL where nobody is registered, or what the user answers. */
export function reportUnrecoverableFault(device: Device, fault: UnrecoverableFault): number {
  return (
    device.faultHandlers.get(UNRECOVERABLE_FAULTS)?.reportUnrecoverable(fault) ?? -Errno.EINVAL
  );
}
