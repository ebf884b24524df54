// SPDX-License-Identifier: Apache-2.0
import { AttachHandle } from '../iommu/handle.ts';
import type { IommufdDevice } from './device.ts';

/** Binds an attachment to the device it was made for, so that a fault finds the way back (C2). */
export class DeviceHandle extends AttachHandle {
  readonly device: IommufdDevice;

  constructor(device: IommufdDevice) {
    super();
    this.device = device;
  }
}
