// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../base/errno.ts';
import { IdTable } from '../base/id_table.ts';
import { allocPagingDomain } from './alloc.ts';
import type { Device, IommuDevice } from './device.ts';
import { type Domain, DomainType, type GuestWatcher } from './domain.ts';
import { createDirectMappings } from './direct_mappings.ts';
import { PageResponseCode } from './fault.ts';
import { IommuGroup } from './group.ts';
import type { ResvRegion } from './reserved.ts';
import { Sim } from '../sim/sim.ts';
import { Sva } from './sva.ts';

export interface IommuCoreOptions {
  readonly sim?: Sim;
  /** True where this allocation shall fail; the fault points of `sim` unless told. */
  readonly allocFails?: () => boolean;
  /** The kind of default domain where the driver has no opinion. */
  readonly defaultDomain?: 'dma' | 'identity';
  /** How long a page request waits for its answer, in ns of virtual time; then it is INVALID (C10). 0, unless told: for ever. */
  readonly pageResponseTimeout?: number;
  /**
   * Page faults of virtual functions, which share the PRI of their physical one (C3): fault-capable tables are refused, as Linux does
   * (unless told), or what one function is answered is kept from the others.
   */
  readonly vfPageRequests?: 'refuse' | 'emulate';
}

/** The IOMMUs, devices and groups of one machine. Counterpart of the globals of drivers/iommu/iommu.c. */
export class IommuCore {
  readonly groups = new IdTable<IommuGroup>(0);
  /** What a driver or user did against the rules, where nobody can be told by an errno: Linux's WARN. */
  readonly warnings: string[] = [];
  /** Answers to page requests that nobody waited for, or that had their answer (C8). */
  spuriousPageResponses = 0;
  /** Groups of page requests that were answered INVALID because nobody did in time (C10). */
  timedOutPageRequests = 0;
  /** Releases of ownership with PASIDs left (B9). */
  ownershipViolations = 0;
  readonly pageResponseTimeout: number;
  readonly vfPageRequests: 'refuse' | 'emulate';
  readonly sim: Sim;
  readonly allocFails: () => boolean;
  /** Processes that share their address space with devices. */
  readonly sva: Sva;
  /** Told of guests' invalidations; nobody, unless a checker looks. */
  guestWatcher: GuestWatcher | undefined = undefined;
  readonly #defaultDomain: 'dma' | 'identity';
  #faultTokens = 0n;
  readonly #groupKeys = new Map<IommuDevice, Map<unknown, IommuGroup>>();

  constructor(options: IommuCoreOptions = {}) {
    this.sim = options.sim ?? new Sim();
    this.sva = new Sva(this.sim);
    this.allocFails = options.allocFails ?? (() => this.sim.faults.point('alloc'));
    this.#defaultDomain = options.defaultDomain ?? 'dma';
    this.pageResponseTimeout = options.pageResponseTimeout ?? 0;
    this.vfPageRequests = options.vfPageRequests ?? 'refuse';
  }

  warn(message: string): void {
    this.warnings.push(message);
  }

  /**
   * The answer as the hardware of a device may see it. FAILURE would stop the page requests of all functions that share them: a virtual
   * function's own stop instead, until they are reset (C3).
   */
  pageResponseFor(device: Device, code: PageResponseCode): PageResponseCode {
    const isShared = device.sharesPageRequests && this.vfPageRequests === 'emulate';
    if (!isShared || code !== PageResponseCode.FAILURE) return code;
    device.pageRequestsPaused = true;
    return PageResponseCode.INVALID;
  }

  /** What stands in for a request's private data: a number that never comes again (C9). */
  nextFaultToken(): bigint {
    return ++this.#faultTokens;
  }

  /** Runs `body` with a group's lock held. */
  locked<T>(group: IommuGroup, body: () => T): T {
    group.mutex.lock();
    try {
      return body();
    } finally {
      group.mutex.unlock();
    }
  }

  /** The reserved regions of a device: the platform's and its driver's. */
  resvRegions(device: Device): ResvRegion[] {
    const own = device.iommu?.ops.getResvRegions?.(device) ?? [];
    return [...device.resvRegions, ...own];
  }

  /**
   * A device has appeared behind an IOMMU: it gets a group and the domain of that. 0, or a negative errno and nothing has
   * changed. Counterpart of `__iommu_probe_device()`.
   */
  probeDevice(device: Device, iommu: IommuDevice): number {
    if (device.group) return 0;
    const rc = iommu.ops.probeDevice?.(device) ?? 0;
    if (rc !== 0) return rc;
    device.iommu = iommu;
    const group = this.#findGroup(device, iommu);
    device.group = group;
    const bits = device.pasidBits;
    device.maxPasids = bits === undefined ? 0 : Math.min(2 ** bits, iommu.maxPasids);
    group.devices.push(device);
    const ready = this.locked(group, () => this.#setUp(group, device));
    if (ready !== 0) this.#remove(device, group);
    return ready;
  }

  /** A device goes away; its owners have let go of it. */
  releaseDevice(device: Device): void {
    const { group, iommu } = device;
    if (!group || !iommu) return;
    for (const registration of [...device.faultHandlers.values()]) registration.unregister();
    this.locked(group, () => {
      const { releaseDomain, identityDomain, blockedDomain } = iommu.ops;
      const direct = device.requireDirect && releaseDomain === blockedDomain;
      const domain = direct ? (identityDomain ?? releaseDomain) : releaseDomain;
      const rc = domain?.attachDev(device, group.domain) ?? 0;
      if (rc !== 0) this.warn(`${device.name}: its driver refused its own release domain (${rc})`);
      device.faultParam?.queue.removeDevice(device); // C6: what it has not completed goes with it
      this.#remove(device, group);
    });
  }

  #setUp(group: IommuGroup, device: Device): number {
    if (group.defaultDomain) {
      const rc = createDirectMappings(group.defaultDomain, device);
      if (rc !== 0) this.warn(`${device.name}: its direct mappings cannot be made (${rc})`);
    }
    if (group.domain) return group.setDeviceDomain(device, group.domain, undefined);
    return this.#setUpDefaultDomain(group, device);
  }

  /** Counterpart of `iommu_setup_default_domain()`. */
  #setUpDefaultDomain(group: IommuGroup, device: Device): number {
    const domain = this.#makeDefaultDomain(device);
    if (typeof domain === 'number') return domain;
    // Mapped before the attach: firmware may have the device at work in there.
    const rc = createDirectMappings(domain, device);
    if (rc !== 0) this.warn(`${device.name}: its direct mappings cannot be made (${rc})`);
    group.defaultDomain = domain;
    return group.setDomain(domain, { mustSucceed: true });
  }

  #makeDefaultDomain(device: Device): Domain | number {
    const ops = device.iommu?.ops;
    if (!ops) return -Errno.ENODEV;
    if (ops.defaultDomain) return ops.defaultDomain;
    if (this.#defaultDomain === 'identity') {
      const identity = ops.identityDomain ?? ops.domainAllocIdentity?.(device);
      if (identity !== undefined && typeof identity !== 'number') return identity;
    }
    return allocPagingDomain(device, DomainType.DMA);
  }

  #findGroup(device: Device, iommu: IommuDevice): IommuGroup {
    const key = iommu.ops.deviceGroup?.(device);
    const keys = this.#groupKeys.get(iommu) ?? new Map<unknown, IommuGroup>();
    this.#groupKeys.set(iommu, keys);
    const found = key === undefined ? undefined : keys.get(key);
    if (found) return found;
    const id = this.groups.reserve();
    const group = new IommuGroup(id, this);
    this.groups.store(id, group);
    if (key !== undefined) keys.set(key, group);
    return group;
  }

  /** Undoes a probe; the last device takes the group and its domains with it. */
  #remove(device: Device, group: IommuGroup): void {
    const { iommu } = device;
    iommu?.ops.releaseDevice?.(device);
    group.devices.splice(group.devices.indexOf(device), 1);
    device.iommu = undefined;
    device.group = undefined;
    device.maxPasids = 0;
    device.requireDirect = false;
    if (group.devices.length > 0) return;
    group.defaultDomain?.free();
    if (group.blockingDomain !== group.defaultDomain) group.blockingDomain?.free();
    group.defaultDomain = group.blockingDomain = group.domain = undefined;
    this.groups.erase(group.id);
    const keys = iommu ? this.#groupKeys.get(iommu) : undefined;
    for (const [key, value] of keys ?? []) if (value === group) keys?.delete(key);
  }
}
