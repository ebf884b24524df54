// SPDX-License-Identifier: Apache-2.0
import { withCleanup } from '../base/cleanup.ts';
import { ErrnoError } from '../base/errno.ts';
import type { Device } from '../iommu/device.ts';
import { IommuCap } from '../iommu/ops.ts';
import { claimDmaOwner, releaseDmaOwner } from '../iommu/ownership.ts';
import { check } from './check.ts';
import type { Context } from './context.ts';
import type { DeviceGroup } from './device_group.ts';
import { IommufdObject } from './objects.ts';
import type { Vdevice } from './vdevice.ts';

export interface BindOptions {
  /** The device is the test driver's: it keeps no context open and its interrupts are not looked at. */
  readonly selftest?: boolean;
  /** Accept interrupts that another device can forge (VFIO's allow_unsafe_interrupts). */
  readonly allowUnsafeInterrupts?: boolean;
}

/** A device that a client has bound (struct iommufd_device): the whole requester id is the context's until it is unbound. */
export class IommufdDevice extends IommufdObject {
  readonly type = 'DEVICE';
  readonly context: Context;
  readonly device: Device;
  readonly group: DeviceGroup;
  /** No domain of it may let DMA bypass the caches. */
  readonly enforceCacheCoherency: boolean;
  /** What a guest has of it. Guarded by the group's lock. */
  vdevice: Vdevice | undefined = undefined;
  private readonly selftest: boolean;

  /** See {@link IommufdDevice.claim}. */
  constructor(context: Context, device: Device, group: DeviceGroup, selftest: boolean) {
    super();
    this.context = context;
    this.device = device;
    this.group = group;
    this.selftest = selftest;
    this.enforceCacheCoherency = this.capable(IommuCap.ENFORCE_CACHE_COHERENCY);
    this.users++; // the driver, until `unbind`
  }

  /**
   * Takes the device for the context (iommufd_device_bind()).
   * @throws ErrnoError EINVAL (not cache coherent), ENODEV (no IOMMU), EPERM (forgeable interrupts, or another owner), EBUSY
   */
  static claim(context: Context, device: Device, options: BindOptions = {}): IommufdDevice {
    if (!device.iommu?.ops.capable?.(device, IommuCap.CACHE_COHERENCY)) {
      throw new ErrnoError('EINVAL', `DMA of ${device.name} is not coherent with the caches`);
    }
    const { selftest = false, allowUnsafeInterrupts = false } = options;
    return withCleanup((cleanup) => {
      const group = context.groups.get(device);
      cleanup.defer(() => context.groups.put(group));
      if (!selftest && !allowUnsafeInterrupts && !group.group.hasIsolatedMsi()) {
        throw new ErrnoError(
          'EPERM',
          `interrupts of ${device.name} are not isolated: other devices could forge them`,
        );
      }
      check(
        claimDmaOwner(device, context),
        `the group of ${device.name} is in use by another owner or driver`,
      );
      cleanup.defer(() => releaseDmaOwner(device));
      const bound = new IommufdDevice(context, device, group, selftest);
      context.objects.reserve(bound);
      if (!selftest) context.get();
      context.objects.finalize(bound);
      group.bound.add(bound);
      return bound;
    });
  }

  capable(cap: (typeof IommuCap)[keyof typeof IommuCap]): boolean {
    return this.device.iommu?.ops.capable?.(this.device, cap) ?? false;
  }

  /** Lets go of the device; a guest that has it loses it, and the id of its vDEVICE is not used again. */
  unbind(): void {
    if (this.vdevice) this.context.objects.tombstone(this.vdevice);
    this.context.objects.destroyUser(this);
  }

  override destroy(): void {
    this.group.bound.delete(this);
    releaseDmaOwner(this.device);
    this.context.groups.put(this.group);
    if (!this.selftest) this.context.put();
  }
}
