// SPDX-License-Identifier: Apache-2.0
/** A driver for the tests of core: it remembers what it was told, and refuses when it is told to. */
import { Errno } from '../base/errno.ts';
import { amdv1 } from '../generic_pt/fmt/amdv1.ts';
import { Table } from '../generic_pt/table.ts';
import { Ram } from '../memory/ram.ts';
import { Sim } from '../sim/sim.ts';
import { allocUserDomain } from './alloc.ts';
import { BaseDomain } from './base_domain.ts';
import { IommuCore, type IommuCoreOptions } from './core.ts';
import { Device, type DeviceOptions, IommuDevice } from './device.ts';
import { type Domain, DomainType, type PagingDomain, type SvaDomain } from './domain.ts';
import type { DomainRequest, IommuOps } from './ops.ts';
import { PtDomain } from './pt_domain.ts';

export interface FakeDeviceOptions extends DeviceOptions {
  /** Devices with the same value share a group. */
  readonly group?: unknown;
  readonly canFault?: boolean;
}

/** What a device's hardware would have now, kept by the driver below from the calls that it gets. */
export class FakeDevice extends Device {
  rid: Domain | undefined = undefined;
  readonly byPasid = new Map<number, Domain>();
  /** Refuse the n-th call from now with this errno; 0: none. */
  refuseAt = 0;
  errno: number = Errno.ENODEV;
  readonly groupKey: unknown;
  readonly canFault: boolean;

  constructor(name: string, options: FakeDeviceOptions = {}) {
    super(name, options);
    this.groupKey = options.group;
    this.canFault = options.canFault ?? false;
  }

  refuses(): number {
    return this.refuseAt > 0 && --this.refuseAt === 0 ? -this.errno : 0;
  }
}

function setRid(domain: Domain, device: Device): number {
  if (!(device instanceof FakeDevice)) throw new Error('not a device of this driver');
  const rc = device.refuses();
  if (rc === 0) device.rid = domain;
  return rc;
}

function setPasid(domain: Domain, device: Device, pasid: number): number {
  if (!(device instanceof FakeDevice)) throw new Error('not a device of this driver');
  if (domain.type === DomainType.BLOCKED) {
    device.byPasid.delete(pasid);
    return 0;
  }
  const rc = device.refuses();
  if (rc === 0) device.byPasid.set(pasid, domain);
  return rc;
}

export class FakeDomain extends PtDomain {
  override attachDev(device: Device): number {
    return setRid(this, device);
  }
  override setDevPasid(device: Device, pasid: number): number {
    return setPasid(this, device, pasid);
  }
}

class FakeStaticDomain extends BaseDomain<typeof DomainType.BLOCKED | typeof DomainType.IDENTITY> {
  override attachDev(device: Device): number {
    return setRid(this, device);
  }
  override setDevPasid(device: Device, pasid: number): number {
    return setPasid(this, device, pasid);
  }
}

export class FakeSvaDomain extends BaseDomain<typeof DomainType.SVA> implements SvaDomain {
  readonly mm: SvaDomain['mm'];
  constructor(mm: SvaDomain['mm']) {
    super(DomainType.SVA);
    this.mm = mm;
  }
  override attachDev(): number {
    return -Errno.EINVAL;
  }
  override setDevPasid(device: Device, pasid: number): number {
    return setPasid(this, device, pasid);
  }
}

/** A machine with one IOMMU of the driver above, whose locks are checked. */
export class FakeWorld {
  readonly sim: Sim;
  readonly core: IommuCore;
  readonly ram: Ram;
  readonly blocked = new FakeStaticDomain(DomainType.BLOCKED);
  readonly requests: DomainRequest[] = [];
  readonly ops: IommuOps;
  readonly iommu: IommuDevice;

  constructor(
    extra: Partial<IommuOps> = {},
    options: IommuCoreOptions & { readonly ram?: Ram } = {},
  ) {
    this.sim = options.sim ?? new Sim({ checkLocks: true });
    this.core = new IommuCore({ ...options, sim: this.sim });
    this.ram = options.ram ?? new Ram({ faults: this.sim.faults });
    this.ops = {
      name: 'test',
      blockedDomain: this.blocked,
      deviceGroup: (device) => (device instanceof FakeDevice ? device.groupKey : undefined),
      canFault: (device) => device instanceof FakeDevice && device.canFault,
      domainAllocPagingFlags: (_device, request) => {
        this.requests.push(request);
        return this.makeDomain();
      },
      ...extra,
    };
    this.iommu = new IommuDevice('test0', this.ops, { maxPasids: 64 });
  }

  makeDomain(): FakeDomain | number {
    const table = this.makeTable();
    return typeof table === 'number' ? table : new FakeDomain(table);
  }

  makeTable(): Table | number {
    return Table.create(amdv1, this.ram, { topLevel: 3 });
  }

  add(name: string, options: FakeDeviceOptions = {}): FakeDevice {
    const device = new FakeDevice(name, options);
    const rc = this.core.probeDevice(device, this.iommu);
    if (rc !== 0) throw new Error(`${name} was refused: ${rc}`);
    return device;
  }

  domain(device: Device, request: DomainRequest = { flags: 0 }): PagingDomain {
    const domain = allocUserDomain(device, request);
    if (typeof domain === 'number' || domain.type === DomainType.NESTED)
      throw new Error('no paging domain');
    return domain;
  }
}
