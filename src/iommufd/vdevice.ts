// SPDX-License-Identifier: Apache-2.0
/** Devices of a guest (the vDEVICE half of viommu.c). */
import type { iommu_vdevice_alloc } from '../abi/iommufd.ts';
import type { Cmd } from '../abi/struct.ts';
import { withCleanup } from '../base/cleanup.ts';
import { ErrnoError } from '../base/errno.ts';
import type { DriverPart } from '../iommu/viommu_ops.ts';
import type { Call } from './call.ts';
import { checkErrno } from './check.ts';
import { IommufdDevice } from './device.ts';
import { hex } from './iova.ts';
import { locked } from './locks.ts';
import { IommufdObject } from './objects.ts';
import { Viommu } from './viommu.ts';

/**
 * What a guest calls a device (struct iommufd_vdevice). It ends with its device, which it does not hold: the device then leaves a
 * tombstone in its place, so that no other object answers to an id that the client still believes in.
 */
export class Vdevice extends IommufdObject {
  readonly type = 'VDEVICE';
  readonly viommu: Viommu;
  readonly device: IommufdDevice;
  readonly virtualId: bigint;
  /** What the driver keeps for it. */
  part: DriverPart | undefined = undefined;

  /** Takes a user of the virtual IOMMU; the lock of the device's group is held. */
  constructor(viommu: Viommu, device: IommufdDevice, virtualId: bigint) {
    super();
    this.viommu = viommu;
    this.device = device;
    this.virtualId = virtualId;
    viommu.users++;
    device.vdevice = this;
  }

  /** Undoes all; the lock of the device's group is held. */
  letGo(): void {
    const { device, viommu, virtualId } = this;
    this.part?.destroy();
    if (viommu.vdevices.get(virtualId) === this) viommu.vdevices.delete(virtualId);
    viommu.users--;
    device.vdevice = undefined;
  }

  override destroy(): void {
    locked(this.device.group.mutex, () => this.letGo());
  }
}

/** IOMMU_VDEVICE_ALLOC */
export function vdeviceAlloc(call: Call<Cmd<typeof iommu_vdevice_alloc>>): void {
  const { cmd, context } = call;
  context.withObject(cmd.viommu_id, Viommu, 'a virtual IOMMU', (viommu) => {
    context.withObject(cmd.dev_id, IommufdDevice, 'a device', (device) => {
      if (viommu.iommu !== device.device.iommu) {
        const { name } = device.device;
        throw new ErrnoError('EINVAL', `${name} is behind another IOMMU than VIOMMU ${viommu.id}`);
      }
      locked(device.group.mutex, () => allocLocked(call, viommu, device));
    });
  });
}

function allocLocked(
  call: Call<Cmd<typeof iommu_vdevice_alloc>>,
  viommu: Viommu,
  device: IommufdDevice,
): void {
  const { cmd, context } = call;
  const { virt_id: virtualId } = cmd;
  if (device.vdevice) {
    const held = `vDEVICE ${device.vdevice.id}`;
    throw new ErrnoError('EEXIST', `${device.device.name} is ${held} already`);
  }
  withCleanup((cleanup) => {
    const made = new Vdevice(viommu, device, virtualId);
    cleanup.defer(() => made.letGo());
    context.objects.reserve(made);
    cleanup.defer(() => context.objects.abort(made));
    if (viommu.vdevices.has(virtualId)) {
      const what = `a device with virtual id ${hex(virtualId)}`;
      throw new ErrnoError('EEXIST', `VIOMMU ${viommu.id} has ${what}`);
    }
    viommu.vdevices.set(virtualId, undefined);
    const part = viommu.driver.vdeviceInit?.(device.device, virtualId);
    if (typeof part === 'number') {
      viommu.vdevices.delete(virtualId);
      throw checkErrno(part, `the driver refused ${device.device.name} as a device of the guest`);
    }
    made.part = part;
    viommu.vdevices.set(virtualId, made);
    cmd.out_vdevice_id = made.id;
    call.respond();
    context.objects.finalize(made);
  });
}
