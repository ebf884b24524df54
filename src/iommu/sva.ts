// SPDX-License-Identifier: Apache-2.0
/** Processes that share their address space with devices (Linux's drivers/iommu/iommu-sva.c). */
import { Errno } from '../base/errno.ts';
import { IdTable } from '../base/id_table.ts';
import type { Mm } from '../memory/mm.ts';
import { lockClass, Mutex } from '../sim/lock.ts';
import type { Sim } from '../sim/sim.ts';
import { allocSvaDomain } from './alloc.ts';
import { attach, attachHandleAt, detach } from './attach.ts';
import type { Device } from './device.ts';
import { DomainType, isSvaDomain, type SvaDomain } from './domain.ts';
import { AttachHandle } from './handle.ts';
import { endFaults } from './io_pgfault.ts';

/** Taken before the lock of a group. */
const SVA_LOCK = lockClass('iommu_sva_lock', 480);

/** The first PASID that is given out: 0 is for requests without one. */
const FIRST_GLOBAL_PASID = 1;

/** An address space at its PASID of a group. Each device of the group that is bound has its own count. */
export class SvaAttachment extends AttachHandle {
  readonly mm: Mm;
  readonly bonds = new Map<Device, SvaBond>();

  constructor(mm: Mm) {
    super();
    this.mm = mm;
  }
}

/** A device that is bound to an address space, as often as `users` says. */
export class SvaBond {
  readonly device: Device;
  readonly mm: Mm;
  /** What the device sends its requests with. */
  readonly pasid: number;
  readonly attachment: SvaAttachment;
  users = 1;

  constructor(device: Device, pasid: number, attachment: SvaAttachment) {
    this.device = device;
    this.mm = attachment.mm;
    this.pasid = pasid;
    this.attachment = attachment;
    attachment.bonds.set(device, this);
  }
}

/** What is kept of an address space from its first bind until it is gone. */
interface MmData {
  readonly pasid: number;
  /** Its domains, with the number of groups that each is attached to. */
  readonly domains: Map<SvaDomain, number>;
  readonly unsubscribe: () => void;
}

/** Binds of processes and devices, and the PASIDs that are the same on every device (B11). */
export class Sva {
  readonly mutex: Mutex;
  readonly #pasids = new IdTable<Mm>(FIRST_GLOBAL_PASID);
  readonly #mms = new Map<Mm, MmData>();

  constructor(sim: Sim) {
    this.mutex = new Mutex(sim, SVA_LOCK);
  }

  /** PASIDs that address spaces have. For leak checks. */
  get pasidsInUse(): number {
    return this.#pasids.size;
  }

  /** The PASID of an address space, or undefined before its first bind and after its end. */
  pasidOf(mm: Mm): number | undefined {
    return this.#mms.get(mm)?.pasid;
  }

  /**
   * Lets a device use an address space at the PASID of that; once more where it does already. Or a negative errno: -ENODEV (no IOMMU, or
   * the device cannot fault), -ESRCH (the process is gone), -ENOSPC (no PASID is left that the device can send), -EOVERFLOW (the PASID is
   * beyond the device's limit), -EBUSY (something else is attached there), -EOPNOTSUPP (the driver has no SVA), -ENOMEM, and what the
   * driver answers.
   */
  bind(device: Device, mm: Mm): SvaBond | number {
    this.mutex.lock();
    try {
      return this.#bindLocked(device, mm);
    } finally {
      this.mutex.unlock();
    }
  }

  #bindLocked(device: Device, mm: Mm): SvaBond | number {
    const { group } = device;
    if (!group) return -Errno.ENODEV;
    if (!mm.alive) return -Errno.ESRCH;
    const data = this.#dataOf(device, mm);
    if (typeof data === 'number') return data;
    const { pasid } = data;
    const found = attachHandleAt(group, pasid, DomainType.SVA);
    if (found === -Errno.ENOENT) return this.#attach(device, mm, data);
    if (!(found instanceof SvaAttachment) || found.mm !== mm) return -Errno.EBUSY;
    const known = found.bonds.get(device);
    if (known) known.users++;
    return known ?? new SvaBond(device, pasid, found);
  }

  /** Undoes one bind; the last of the group detaches, and faults that were left are answered INVALID. */
  unbind(bond: SvaBond): void {
    this.mutex.lock();
    try {
      if (bond.users > 0 && --bond.users === 0) this.#unbindLocked(bond);
    } finally {
      this.mutex.unlock();
    }
  }

  /** The device may have been released meanwhile, with its group: then there is nothing to detach. */
  #unbindLocked({ device, mm, pasid, attachment }: SvaBond): void {
    attachment.bonds.delete(device);
    const { domain } = attachment;
    const data = this.#mms.get(mm);
    if (attachment.bonds.size > 0 || !data || !domain || !isSvaDomain(domain)) return;
    detach(device, pasid, domain);
    endFaults(attachment);
    this.#putDomain(mm, data, domain);
  }

  /** What is known of an address space, from its first bind on. */
  #dataOf(device: Device, mm: Mm): MmData | number {
    const limit = device.maxPasids;
    const known = this.#mms.get(mm);
    if (known) return known.pasid >= limit ? -Errno.EOVERFLOW : known;
    if (device.group?.core.allocFails()) return -Errno.ENOMEM;
    const pasid = this.#pasids.reserve();
    if (pasid >= limit) {
      this.#pasids.erase(pasid);
      return -Errno.ENOSPC;
    }
    this.#pasids.store(pasid, mm);
    const observer = { invalidate: () => undefined, release: () => this.#released(mm) };
    const unsubscribe = mm.tables?.subscribe(observer) ?? (() => undefined);
    const data = { pasid, domains: new Map<SvaDomain, number>(), unsubscribe };
    this.#mms.set(mm, data);
    return data;
  }

  /** A domain of the address space that the device takes, else a new one. */
  #attach(device: Device, mm: Mm, data: MmData): SvaBond | number {
    const { core } = device.group ?? {};
    if (core?.allocFails()) return -Errno.ENOMEM;
    const { pasid, domains } = data;
    const handle = new SvaAttachment(mm);
    const bond = new SvaBond(device, pasid, handle);
    for (const [domain, users] of domains) {
      if (attach(device, pasid, domain, handle) !== 0) continue;
      domains.set(domain, users + 1);
      return bond;
    }
    const domain = allocSvaDomain(device, mm);
    if (typeof domain === 'number') return domain;
    const rc = attach(device, pasid, domain, handle);
    if (rc !== 0) {
      domain.free();
      return rc;
    }
    domains.set(domain, 1);
    return bond;
  }

  #putDomain(mm: Mm, data: MmData, domain: SvaDomain): void {
    const users = (data.domains.get(domain) ?? 1) - 1;
    if (users > 0) {
      data.domains.set(domain, users);
      return;
    }
    data.domains.delete(domain);
    domain.free();
    if (!mm.alive) this.#drop(mm);
  }

  /** The process has exited. While it is bound, its PASID stays attached, with nothing behind it. */
  #released(mm: Mm): void {
    if (this.#mms.get(mm)?.domains.size === 0) this.#drop(mm);
  }

  #drop(mm: Mm): void {
    const data = this.#mms.get(mm);
    if (!data) return;
    this.#mms.delete(mm);
    data.unsubscribe();
    this.#pasids.erase(data.pasid);
  }
}
