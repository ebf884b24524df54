// SPDX-License-Identifier: Apache-2.0
import {
  iommu_hw_info_vtd,
  IOMMU_HW_INFO_TYPE_DEFAULT,
  IOMMU_HW_INFO_TYPE_INTEL_VTD,
  IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17,
} from '../../abi/iommufd.ts';
import { Errno } from '../../base/errno.ts';
import type { IommuCore } from '../../iommu/core.ts';
import { type Device, IommuDevice, NO_PASID } from '../../iommu/device.ts';
import type { PageResponse } from '../../iommu/fault.ts';
import { reportUnrecoverableFault } from '../../iommu/fault_registration.ts';
import { type HwInfo, IommuCap, type IommuOps } from '../../iommu/ops.ts';
import { type ResvRegion, ResvType } from '../../iommu/reserved.ts';
import type { Hardware } from '../../kernel/hardware.ts';
import type { DeviceFunction } from './device_function.ts';
import { DeviceInfo } from './device_info.ts';
import type { FaultEvent, FaultReport } from './fault_events.ts';
import { IntelBlockedDomain, IntelIdentityDomain } from './fixed_domains.ts';
import { NestedGuestDomain } from './nested_domain.ts';
import { IntelPagingDomain } from './paging_domain.ts';
import { IntelSvaDomain } from './sva_domain.ts';
import { Unit } from './unit.ts';
import { unrecoverableFault } from './unrecoverable.ts';

/** Where x86 sends its interrupt messages, which no table translates. Source: Linux `intel_iommu_get_resv_regions()`. */
const MSI_WINDOW: ResvRegion = {
  start: 0xfee0_0000n,
  last: 0xfeef_ffffn,
  prot: 0,
  type: ResvType.MSI,
};

/** A fault with the device that it is of, where the driver knows it. */
export interface DeviceFault extends FaultEvent {
  readonly unit: string;
  readonly device: Device | undefined;
}

/** A device, with what its function can do. */
export interface IntelDeviceOptions extends DeviceFunction {
  /** Bus, device and function, as its requests carry them. */
  readonly sourceId: number;
  /** Of its physical function, where it is a virtual one. */
  readonly physicalSourceId?: number;
  /** Devices with the same one share a group. */
  readonly group?: unknown;
}

/**
 * The driver for Intel's VT-d: all units of a machine, and the devices behind them. It knows the hardware by registers, memory and
 * interrupts only. Counterpart of Linux drivers/iommu/intel/iommu.c.
 */
export class IntelIommu {
  readonly core: IommuCore;
  readonly ops: IommuOps;
  /** Told of each access that a unit refused. */
  onFault: ((fault: DeviceFault) => void) | undefined = undefined;
  /** Told where faults came faster than they could be recorded. */
  onFaultOverflow: ((unit: string) => void) | undefined = undefined;
  readonly #iommus = new Map<Unit, IommuDevice>();
  readonly #infos = new Map<Device, DeviceInfo>();
  /** Of devices that are about to be probed. */
  readonly #coming = new Map<
    Device,
    { readonly unit: Unit; readonly options: IntelDeviceOptions }
  >();
  readonly #infoOf = (device: Device): DeviceInfo | undefined => this.#infos.get(device);

  constructor(core: IommuCore) {
    this.core = core;
    this.ops = this.#makeOps();
  }

  /** Takes a unit into use; what is behind it is blocked. Or a negative errno (see `Unit.start`). */
  addUnit(name: string, hardware: Hardware): Unit | number {
    const unit = Unit.start(name, this.core, hardware, (from, report) =>
      this.#report(from, report),
    );
    if (typeof unit === 'number') return unit;
    const { maxPasids } = unit.caps;
    this.#iommus.set(unit, new IommuDevice(name, this.ops, { maxPasids }));
    return unit;
  }

  /** A unit goes away; no devices are behind it. */
  removeUnit(unit: Unit): void {
    unit.stop();
    this.#iommus.delete(unit);
  }

  /** The unit as core knows it. */
  iommuOf(unit: Unit): IommuDevice {
    const found = this.#iommus.get(unit);
    if (!found) throw new Error(`${unit.name} is not a unit of this driver`);
    return found;
  }

  /** A device appears behind a unit. 0, or -ENOMEM, or what a failed submission answers. */
  addDevice(device: Device, unit: Unit, options: IntelDeviceOptions): number {
    this.#coming.set(device, { unit, options });
    const rc = this.core.probeDevice(device, this.iommuOf(unit));
    if (rc !== 0) this.#coming.delete(device);
    return rc;
  }

  /** It goes away; nothing is attached to it any more. */
  removeDevice(device: Device): void {
    this.core.releaseDevice(device);
    this.#coming.delete(device);
  }

  /** What the driver knows of a device, for dumps and tests. */
  infoOf(device: Device): DeviceInfo | undefined {
    return this.#infos.get(device);
  }

  #makeOps(): IommuOps {
    const blocked = new IntelBlockedDomain(this.#infoOf);
    return {
      name: 'intel-iommu',
      blockedDomain: blocked,
      releaseDomain: blocked,
      identityDomain: new IntelIdentityDomain(this.#infoOf),
      probeDevice: (device) => this.#probe(device),
      releaseDevice: (device) => this.#release(device),
      deviceGroup: (device) => this.#coming.get(device)?.options.group,
      capable: (device, cap) => this.#capable(device, cap),
      canFault: (device) => this.#infos.get(device)?.canFault ?? false,
      enableFaults: (device) => this.#infos.get(device)?.enableFaults() ?? -Errno.ENODEV,
      disableFaults: (device) => this.#disableFaults(device),
      pageResponse: (device, response) => this.#respond(device, response),
      getResvRegions: () => [MSI_WINDOW],
      hwInfo: (device, type) => this.#hwInfo(device, type),
      domainAllocPagingFlags: (device, { flags, userData }) => {
        const unit = this.#infos.get(device)?.unit;
        if (!unit) return -Errno.ENODEV;
        if (userData) return -Errno.EOPNOTSUPP;
        return IntelPagingDomain.create(unit, flags, this.#infoOf);
      },
      domainAllocNested: (device, { flags, parent, userData }) => {
        const unit = this.#infos.get(device)?.unit;
        if (!unit) return -Errno.ENODEV;
        if (!userData) return -Errno.EOPNOTSUPP;
        return NestedGuestDomain.create(unit, parent, flags, userData, this.#infoOf);
      },
      domainAllocSva: (device, mm) => {
        const info = this.#infos.get(device);
        return info ? IntelSvaDomain.create(info, mm, this.#infoOf) : -Errno.EINVAL;
      },
    };
  }

  #probe(device: Device): number {
    const coming = this.#coming.get(device);
    if (!coming) return -Errno.ENODEV;
    const { unit, options } = coming;
    const { sourceId, physicalSourceId } = options;
    if (unit.devices.has(sourceId)) return -Errno.EBUSY;
    const fn = usefulTo(unit, options);
    const info = DeviceInfo.create(device, { unit, sourceId, fn, physicalSourceId });
    if (typeof info === 'number') return info;
    this.#infos.set(device, info);
    unit.devices.set(sourceId, info);
    info.turnOn();
    return 0;
  }

  /** A handler that was beside the domains goes. */
  #disableFaults(device: Device): void {
    const info = this.#infos.get(device);
    for (const pasid of [NO_PASID, ...(info?.pasids.keys() ?? [])]) info?.drainFaults(pasid);
    info?.disableFaults();
  }

  #respond(device: Device, { pasid, grpid: group, code, privateData }: PageResponse): void {
    const info = this.#infos.get(device);
    if (!info) return;
    const { sourceId, unit } = info;
    const hadPasid = info.groupsWithPasid.delete(group);
    const to = { sourceId, pasid: hadPasid ? pasid : undefined, group, privateData };
    unit.pageRequests?.respond(to, code);
  }

  #release(device: Device): void {
    const info = this.#infos.get(device);
    info?.free();
    if (info) info.unit.forget(info);
    this.#infos.delete(device);
  }

  #capable(device: Device, cap: IommuCap): boolean {
    const info = this.#infos.get(device);
    if (!info) return false;
    const { caps } = info.unit;
    switch (cap) {
      case IommuCap.CACHE_COHERENCY:
        return true;
      case IommuCap.ENFORCE_CACHE_COHERENCY:
        return caps.hasSnoopControl;
      case IommuCap.DIRTY_TRACKING:
        return caps.hasDirty;
      case IommuCap.PCI_ATS_SUPPORTED:
        return info.fn.ats !== undefined;
      default:
        return false;
    }
  }

  /** The registers as they are; the erratum is said of every unit. */
  #hwInfo(device: Device, type: number): HwInfo | number {
    if (type !== IOMMU_HW_INFO_TYPE_DEFAULT && type !== IOMMU_HW_INFO_TYPE_INTEL_VTD) {
      return -Errno.EOPNOTSUPP;
    }
    const caps = this.#infos.get(device)?.unit.caps;
    if (!caps) return -Errno.ENODEV;
    if (this.core.allocFails()) return -Errno.ENOMEM;
    const data = new Uint8Array(iommu_hw_info_vtd.size);
    const info = iommu_hw_info_vtd.on(new DataView(data.buffer));
    info.flags = IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17;
    info.cap_reg = caps.capReg;
    info.ecap_reg = caps.ecapReg;
    return { type: IOMMU_HW_INFO_TYPE_INTEL_VTD, data };
  }

  #report(unit: Unit, { events, overflowed }: FaultReport): void {
    for (const event of events) {
      const device = unit.devices.get(event.sourceId)?.device;
      if (device) reportUnrecoverableFault(device, unrecoverableFault(event));
      this.onFault?.({ ...event, unit: unit.name, device });
    }
    if (overflowed) this.onFaultOverflow?.(unit.name);
  }
}

/** What of a function's capabilities a unit has a use for. Source: Linux `intel_iommu_probe_device()`. */
function usefulTo({ caps }: Unit, { ats, pasid, pri }: DeviceFunction): DeviceFunction {
  const hasAts = caps.ecap.dt === 1;
  return {
    pri: hasAts && ats && caps.hasPageRequests ? pri : undefined,
    ats: hasAts ? ats : undefined,
    pasid: caps.hasPasids ? pasid : undefined,
  };
}
