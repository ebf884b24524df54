// SPDX-License-Identifier: Apache-2.0
import { iommu_hwpt_vtd_s1, IOMMU_HWPT_DATA_VTD_S1 } from '../../abi/iommufd.ts';
import { allocUserDomain } from '../../iommu/alloc.ts';
import { attach, detach, replace } from '../../iommu/attach.ts';
import { IommuCore } from '../../iommu/core.ts';
import { Device, NO_PASID } from '../../iommu/device.ts';
import type { Domain } from '../../iommu/domain.ts';
import type { FaultHandler } from '../../iommu/fault.ts';
import { AttachHandle } from '../../iommu/handle.ts';
import { claimDmaOwner } from '../../iommu/ownership.ts';
import type { UserData } from '../../iommu/user_data.ts';
import type { Hardware } from '../../kernel/hardware.ts';
import { Ram } from '../../memory/ram.ts';
import type { Faults } from '../../sim/faults.ts';
import { Sim } from '../../sim/sim.ts';
import type { AtsControl, PriControl } from './device_function.ts';
import { type FakeOptions, FakeVtd } from './fake_vtd.ts';
import { type IntelDeviceOptions, IntelIommu } from './intel_iommu.ts';
import { IntelPagingDomain } from './paging_domain.ts';
import { NestedGuestDomain } from './nested_domain.ts';
import type { Unit } from './unit.ts';

export const OWNER = {};

/** For tests: a unit of any kind with the driver, and the core around it. */
export class Rig<H extends Hardware> {
  readonly core: IommuCore;
  readonly sim: Sim;
  readonly faults: Faults;
  readonly ram: Ram;
  readonly hardware: H;
  readonly driver: IntelIommu;
  readonly unit: Unit;

  /** With `core`, a unit of that core's machine. */
  constructor(make: (sim: Sim, ram: Ram) => H, core?: IommuCore) {
    this.core = core ?? new IommuCore({ sim: new Sim({ checkLocks: true }) });
    this.sim = this.core.sim;
    this.faults = this.sim.faults;
    this.ram = new Ram({ faults: this.faults });
    this.hardware = make(this.sim, this.ram);
    this.driver = new IntelIommu(this.core);
    const unit = this.driver.addUnit('dmar0', this.hardware);
    if (typeof unit === 'number') throw new Error(`the unit did not start: ${unit}`);
    this.unit = unit;
  }

  /** A device that is owned, so that it is blocked until something is attached. With `pasidBits` it has PASIDs. */
  add(
    sourceId: number,
    { pasidBits, ...options }: Partial<IntelDeviceOptions> & { readonly pasidBits?: number } = {},
  ): Device {
    const device = new Device(`dev${sourceId}`, pasidBits ? { pasidBits } : {});
    const rc = this.driver.addDevice(device, this.unit, {
      sourceId,
      ...(pasidBits && { pasid: { enable: () => undefined } }),
      ...options,
    });
    if (rc !== 0) throw new Error(`the device was refused: ${rc}`);
    claimDmaOwner(device, OWNER);
    return device;
  }

  paging(device: Device, flags = 0, faultHandler?: FaultHandler): IntelPagingDomain {
    const domain = allocUserDomain(device, { flags, faultHandler });
    if (typeof domain === 'number') throw new Error(`refused: ${domain}`);
    if (!(domain instanceof IntelPagingDomain)) throw new Error('not a paging domain');
    return domain;
  }

  nested(device: Device, parent: Domain, userData: UserData): NestedGuestDomain {
    const domain = allocUserDomain(device, { flags: 0, parent, userData });
    if (typeof domain === 'number') throw new Error(`refused: ${domain}`);
    if (!(domain instanceof NestedGuestDomain)) throw new Error('not a nested domain');
    return domain;
  }

  attach(device: Device, domain: Domain, pasid = NO_PASID): number {
    return attach(device, pasid, domain, new AttachHandle());
  }

  replace(device: Device, domain: Domain, pasid = NO_PASID): number {
    return replace(device, pasid, domain, new AttachHandle());
  }

  detach(device: Device, domain: Domain, pasid = NO_PASID): void {
    detach(device, pasid, domain);
  }
}

/** For tests of the driver alone: a unit that answers and translates nothing. */
export class FakeRig extends Rig<FakeVtd> {
  constructor(options: FakeOptions = {}, kind: typeof FakeVtd = FakeVtd, core?: IommuCore) {
    super((sim, ram) => new kind(sim, ram, options), core);
  }

  get vtd(): FakeVtd {
    return this.hardware;
  }

  /** Words of the context entry of a device. */
  context(sourceId: number): number[] {
    const { vtd } = this;
    const [bus, devfn] = [sourceId >>> 8, sourceId & 0xff];
    const [size, half] = vtd.isScalable ? [8, devfn >>> 7] : [4, 0];
    const [lo = 0, hi = 0] = vtd.words(vtd.rootTable + BigInt(bus * 16 + half * 8), 2);
    const table = (BigInt(hi) << 32n) | BigInt((lo & ~0xfff) >>> 0);
    return vtd.words(table + BigInt((devfn - half * 128) * size * 4), size);
  }

  /** Words of the PASID table entry of a device's requests without PASID, or with one. */
  pasidEntry(sourceId: number, pasid = NO_PASID): number[] {
    const { vtd } = this;
    const pointer = (words: number[]): bigint =>
      (BigInt(words[1] ?? 0) << 32n) | BigInt(((words[0] ?? 0) & ~0xfff) >>> 0);
    const directory = pointer(this.context(sourceId));
    const table = pointer(vtd.words(directory + BigInt((pasid >>> 6) * 8), 2));
    return table === 0n ? [] : vtd.words(table + BigInt((pasid & 63) * 64), 16);
  }
}

/** A function's ATS that remembers whether it is on. */
export function fakeAts(queueDepth: number): AtsControl & { isOn: boolean } {
  return {
    queueDepth,
    isOn: false,
    enable(on) {
      this.isOn = on;
    },
  };
}

/** A function's page requests that remember what was done to them. */
export function fakePri(more: Partial<PriControl> = {}): PriControl & { readonly log: string[] } {
  const log: string[] = [];
  return {
    log,
    pasidRequired: true,
    reset: () => void log.push('reset'),
    enable: (requests) => log.push(`on, ${requests}`) > 0,
    disable: () => void log.push('off'),
    ...more,
  };
}

/** A client's structure that has these bytes. */
export const userDataOf = (type: number, bytes: Uint8Array): UserData => ({
  type,
  length: bytes.length,
  copyIn: (offset, into) => {
    into.set(bytes.subarray(offset, offset + into.length));
    return true;
  },
  copyOut: () => false,
});

/** What the client says of a guest's table. */
export function guestTable(pgtbl_addr: bigint, more: { flags?: bigint; addr_width?: number } = {}) {
  const bytes = new Uint8Array(iommu_hwpt_vtd_s1.size);
  const cmd = iommu_hwpt_vtd_s1.on(new DataView(bytes.buffer));
  cmd.pgtbl_addr = pgtbl_addr;
  cmd.addr_width = more.addr_width ?? 48;
  cmd.flags = more.flags ?? 0n;
  return userDataOf(IOMMU_HWPT_DATA_VTD_S1, bytes);
}
