// SPDX-License-Identifier: Apache-2.0
import type { Task } from '../kernel/task.ts';
import { VfioDeviceFile } from './device_file.ts';
import type { VfioDevice } from './device.ts';

/** The character device of a VFIO device: `/dev/vfio/devices/vfio0` (device_cdev.c). */
export class VfioCdev {
  readonly device: VfioDevice;
  /** Counts from 0; the N of `vfioN`. Its major number is whatever the kernel had free. */
  readonly minor: number;
  #open = 0;

  constructor(device: VfioDevice, minor: number) {
    this.device = device;
    this.minor = minor;
  }

  /** As in /dev/vfio/devices and in the device's sysfs folder `vfio-dev`. */
  get name(): string {
    return `vfio${this.minor}`;
  }

  get path(): string {
    return `/dev/vfio/devices/${this.name}`;
  }

  /** Open files of it: bound, or waiting to be. */
  get openFiles(): number {
    return this.#open;
  }

  /** Opens it. Any number of files can be open; one of them at a time can bind. */
  openDevice(_task: Task): VfioDeviceFile {
    this.#open++;
    return new VfioDeviceFile(this.device, this.path, () => this.#open--);
  }
}
