// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../../base/errno.ts';
import type { IommuCore } from '../../iommu/core.ts';
import { type Device, NO_PASID } from '../../iommu/device.ts';
import { type Domain, isFaultCapable } from '../../iommu/domain.ts';
import {
  PagePerm,
  PageRequestFlags,
  type PageResponse,
  PageResponseCode,
} from '../../iommu/fault.ts';
import { IopfQueue, reportDeviceFault } from '../../iommu/io_pgfault.ts';
import { coveringRange } from '../../pci/ats_entry.ts';
import {
  type AtsTranslator,
  GroupResponse,
  type InvalidateCompletion,
  isStopMarker,
  type PageRequestMessage,
  type TranslationCompletion,
  type TranslationRequest,
} from '../../pci/ats_messages.ts';
import { translationInDomain } from '../../pci/domain_translation.ts';
import type { InvalidationNotice } from '../../pci/translator.ts';
import type { PciFunction } from '../../pci/function.ts';
import { Invalidator } from '../../pci/invalidator.ts';
import type { PriCapability } from '../../pci/pri.ts';

const CODES: Readonly<Record<PageResponseCode, GroupResponse>> = {
  [PageResponseCode.SUCCESS]: GroupResponse.SUCCESS,
  [PageResponseCode.INVALID]: GroupResponse.INVALID,
  [PageResponseCode.FAILURE]: GroupResponse.FAILURE,
};

/** A function behind the IOMMU that has ATS. */
interface Port {
  readonly fn: PciFunction;
  readonly invalidator: Invalidator;
  /** Fault-capable domains that are attached to it, at any PASID. */
  faultUsers: number;
  /** It let an invalidation time out: what it keeps is not believed any more. */
  isDistrusted: boolean;
  /** The PASIDs of its page requests by group, to be sent back. */
  readonly prefixes: Map<number, number | undefined>;
}

/** Who looks up what is attached. */
type DomainAt = (device: Device, pasid: number) => Domain | undefined;

/** ATS and PRI of a `PagingIommu`: the side of hardware and driver in one. */
export class PagingAts implements AtsTranslator {
  readonly #core: IommuCore;
  readonly #domainAt: DomainAt;
  readonly #queue: IopfQueue;
  readonly #ports = new Map<Device, Port>();
  onInvalidation: ((notice: InvalidationNotice) => void) | undefined = undefined;
  /** Devices with faults on by the PRI that they share. */
  readonly #priUsers = new Map<PriCapability, number>();

  constructor(core: IommuCore, domainAt: DomainAt) {
    this.#core = core;
    this.#domainAt = domainAt;
    this.#queue = new IopfQueue(core);
  }

  /** Turns on what the function has: PASIDs and ATS. */
  add(fn: PciFunction): void {
    fn.pasid?.enable(true);
    if (!fn.ats) return;
    fn.ats.enable(true);
    this.#ports.set(fn.device, {
      fn,
      invalidator: new Invalidator(this.#core.sim, fn, { depth: fn.ats.queueDepth }),
      faultUsers: 0,
      isDistrusted: false,
      prefixes: new Map(),
    });
  }

  remove(device: Device): void {
    this.#ports.get(device)?.fn.ats?.enable(false);
    this.#ports.get(device)?.fn.pasid?.enable(false);
    this.#ports.delete(device);
  }

  canFault(device: Device): boolean {
    return this.#ports.get(device)?.fn.pageRequests !== undefined;
  }

  requestTranslation(device: Device, request: TranslationRequest): TranslationCompletion {
    if (!this.takesTranslated(device)) return { status: 'UNSUPPORTED_REQUEST' };
    const domain = this.#domainAt(device, request.pasid?.value ?? NO_PASID);
    return { status: 'SUCCESS', entry: translationInDomain(domain, request) };
  }

  takesTranslated(device: Device): boolean {
    const port = this.#ports.get(device);
    return port?.fn.ats?.enabled === true && !port.isDistrusted;
  }

  invalidateCompletion(device: Device, completion: InvalidateCompletion): void {
    this.#ports.get(device)?.invalidator.complete(completion);
  }

  pageRequest(device: Device, message: PageRequestMessage): void {
    const port = this.#ports.get(device);
    // Nothing waits here, so there is nothing that a stop marker could end.
    if (!port || isStopMarker(message)) return;
    const { pasid, address, read, write, last, group, privateData } = message;
    if (!this.#takesFaults(device, pasid?.value ?? NO_PASID)) {
      device.faultParam?.takePartial(group);
      const answer = { group, pasid: pasid?.value, code: GroupResponse.INVALID };
      if (last) port.fn.groupResponse({ ...answer, privateData });
      return;
    }
    port.prefixes.set(group, pasid?.value);
    reportDeviceFault(device, {
      flags:
        (pasid ? PageRequestFlags.PASID_VALID : 0) |
        (last ? PageRequestFlags.LAST_PAGE : 0) |
        (privateData === undefined ? 0 : PageRequestFlags.PRIVATE_DATA),
      pasid: pasid?.value ?? NO_PASID,
      grpid: group,
      perm:
        (read ? PagePerm.READ : 0) |
        (write ? PagePerm.WRITE : 0) |
        (pasid?.execute ? PagePerm.EXEC : 0) |
        (pasid?.privileged ? PagePerm.PRIV : 0),
      addr: address,
      ...(privateData === undefined ? {} : { privateData }),
    });
  }

  /** The part of hardware: what is in its tables takes faults, or whoever is registered. While that changes core still knows what was before. */
  #takesFaults(device: Device, pasid: number): boolean {
    const domain = this.#domainAt(device, pasid);
    return (domain && isFaultCapable(domain)) === true || device.faultHandlers.has(pasid);
  }

  /** Core's answer to a group: on its way to the device. */
  respond(device: Device, { grpid, code, privateData }: PageResponse): void {
    const port = this.#ports.get(device);
    if (!port) return;
    const pasid = port.prefixes.get(grpid);
    port.prefixes.delete(grpid);
    const data = privateData === undefined ? {} : { privateData };
    port.fn.groupResponse({ group: grpid, pasid, code: CODES[code], ...data });
  }

  /** Every device that keeps translations of the domain forgets a range of bytes, `last` inclusive. */
  flush(
    domain: Domain,
    first: bigint,
    last: bigint,
    pasids: (device: Device) => Iterable<number>,
  ): void {
    for (const device of this.#ports.keys()) {
      for (const pasid of pasids(device)) {
        if (this.#domainAt(device, pasid) === domain) this.forget(device, pasid, first, last);
      }
    }
  }

  /** One device forgets a range at one PASID. One that does not say so in time is not believed any more. */
  forget(device: Device, pasid: number, first = 0n, last = 2n ** 64n - 1n): void {
    const port = this.#ports.get(device);
    if (!port || port.isDistrusted) return;
    const prefix = pasid === NO_PASID ? undefined : pasid;
    const range = coveringRange(first, last);
    const text = `device TLB, device ${device.name}${prefix === undefined ? '' : `, PASID ${prefix}`}`;
    const { requesterId: requester } = port.fn;
    this.onInvalidation?.({ cache: 'device TLB', text, range: { first, last }, pasid, requester });
    if (port.invalidator.invalidate(prefix, range) !== 'TIMEOUT') return;
    port.isDistrusted = true;
    this.#core.warn(
      `${device.name} did not complete an invalidation of its translations: its translated requests are refused from now on`,
    );
  }

  /** C1: before the switch to a fault-capable domain. 0, or -ENODEV, -EBUSY, -ENOMEM. */
  enableFaults(device: Device, domain: Domain): number {
    return isFaultCapable(domain) ? this.addFaultUser(device) : 0;
  }

  /** C4: a fault-capable domain has gone; with the last, no page request of the device is left anywhere. */
  disableFaults(device: Device, domain: Domain | undefined): void {
    if (domain && isFaultCapable(domain)) this.removeFaultUser(device);
  }

  /** Page requests are with core when they are sent: what core's own handlers are at work on is waited for. */
  drain(device: Device): void {
    if (device.faultParam) this.#queue.flushDevice(device);
  }

  /** The first turns a device's faults on. 0, or -ENODEV, -EBUSY, -ENOMEM. */
  addFaultUser(device: Device): number {
    const port = this.#ports.get(device);
    const pri = port?.fn.pageRequests;
    if (!port || !pri) return -Errno.ENODEV;
    if (port.faultUsers === 0) {
      const rc = this.#queue.addDevice(device);
      if (rc !== 0) return rc;
      const users = this.#priUsers.get(pri) ?? 0;
      if (users === 0 && !enable(pri)) {
        this.#queue.removeDevice(device);
        return -Errno.EBUSY;
      }
      this.#priUsers.set(pri, users + 1);
      port.prefixes.clear();
    }
    port.faultUsers++;
    return 0;
  }

  /** The last turns them off. */
  removeFaultUser(device: Device): void {
    const port = this.#ports.get(device);
    const pri = port?.fn.pageRequests;
    if (!port || !pri || --port.faultUsers > 0) return;
    const users = (this.#priUsers.get(pri) ?? 1) - 1;
    this.#priUsers.set(pri, users);
    if (users === 0) pri.disable();
    // What handlers have of it is answered after this; requests whose group never became whole are forgotten at the next start.
    this.#queue.removeDevice(device);
  }
}

/** Whoever used it before may have left requests without an answer. */
function enable(pri: PriCapability): boolean {
  if (!pri.enabled && !pri.stopped) pri.reset();
  return pri.enable(pri.capacity);
}
