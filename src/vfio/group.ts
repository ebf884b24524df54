// SPDX-License-Identifier: Apache-2.0
import { ErrnoError } from '../base/errno.ts';
import type { IommuGroup } from '../iommu/group.ts';
import { isDmaOwnerClaimed } from '../iommu/ownership.ts';
import type { Context } from '../iommufd/context.ts';
import { locked } from '../iommufd/locks.ts';
import { ensureCompatIoas } from '../iommufd/vfio_compat.ts';
import type { Faults } from '../sim/faults.ts';
import { Mutex } from '../sim/lock.ts';
import type { Sim } from '../sim/sim.ts';
import type { VfioDevice } from './device.ts';
import { VfioDeviceFile } from './device_file.ts';
import { VfioGroupFile } from './group_file.ts';
import { GROUP_LOCK } from './locks.ts';

/**
 * The older way to a device (struct vfio_group, group.c): its whole IOMMU group is opened, given a container, and then asked for the
 * device. The container is a context of iommufd. Either the group is used like this or its devices are bound one by one, never both.
 */
export class VfioGroup {
  readonly iommuGroup: IommuGroup;
  /** Counts from 0, unlike the group's number. */
  readonly minor: number;
  /** Guards all that follows. */
  readonly mutex: Mutex;
  readonly devices: VfioDevice[] = [];
  readonly faults: Faults;
  #isOpen = false;
  /** Devices of it that are bound by a file of their own. */
  #bound = 0;
  #container: Context | undefined;

  constructor(iommuGroup: IommuGroup, minor: number, sim: Sim) {
    this.iommuGroup = iommuGroup;
    this.minor = minor;
    this.mutex = new Mutex(sim, GROUP_LOCK);
    this.faults = sim.faults;
  }

  /** As in /dev/vfio and /sys/class/vfio: the number of the IOMMU group. */
  get name(): string {
    return `${this.iommuGroup.id}`;
  }

  get path(): string {
    return `/dev/vfio/${this.name}`;
  }

  /** Opens it. Throws EBUSY where it is open, or a device of it is bound by itself. */
  open(): VfioGroupFile {
    return locked(this.mutex, () => {
      if (this.#bound > 0) throw this.#busy('a device of it is bound to /dev/iommu');
      if (this.#isOpen) throw this.#busy('it is open already');
      this.#isOpen = true;
      return new VfioGroupFile(this);
    });
  }

  /** The last close of its file. Devices that were opened through it stay open. */
  closed(): void {
    locked(this.mutex, () => {
      this.#container?.put();
      this.#container = undefined;
      this.#isOpen = false;
    });
  }

  /** A device of it is bound by itself from here on, until {@link unblock}. Throws EBUSY while the group is open. */
  block(): void {
    locked(this.mutex, () => {
      if (this.#isOpen) throw this.#busy('it is open, and its devices belong to that file');
      this.#bound++;
    });
  }

  unblock(): void {
    locked(this.mutex, () => this.#bound--);
  }

  /** VFIO_GROUP_SET_CONTAINER: from here on devices can be had, in the container's address space. Throws EINVAL, ENOMEM. */
  setContainer(context: () => Context): void {
    locked(this.mutex, () => {
      if (this.#container) throw new ErrnoError('EINVAL', `group ${this.name} has a container`);
      const found = context();
      ensureCompatIoas(found);
      this.#container = found.get();
    });
  }

  /** VFIO_GROUP_UNSET_CONTAINER. Throws EINVAL where there is none. Devices that are open keep it alive. */
  unsetContainer(): void {
    locked(this.mutex, () => {
      if (!this.#container) throw this.#withoutContainer();
      this.#container.put();
      this.#container = undefined;
    });
  }

  /** VFIO_GROUP_GET_STATUS. */
  get status(): { readonly hasContainer: boolean; readonly isViable: boolean } {
    return locked(this.mutex, () => {
      const hasContainer = this.#container !== undefined;
      return { hasContainer, isViable: hasContainer || !isDmaOwnerClaimed(this.iommuGroup) };
    });
  }

  /**
   * The device of that name, as VFIO_GROUP_GET_DEVICE_FD takes it: an address, and options after a space. Throws ENODEV, EINVAL (an
   * option; a token of virtual functions is one, and no device here has it).
   */
  deviceOf(text: string): VfioDevice {
    const device = this.devices.find(({ name }) => text === name || text.startsWith(`${name} `));
    if (!device) throw new ErrnoError('ENODEV', `group ${this.name} has no device "${text}"`);
    const options = text.slice(device.name.length);
    if (/[^ ]/.test(options))
      throw new ErrnoError('EINVAL', `${device.name} takes no option "${options.trim()}"`);
    return device;
  }

  /** Opens a device in the container's address space. Throws EINVAL (no container), and as `VfioDevice.open`. */
  openDevice(device: VfioDevice): VfioDeviceFile {
    return locked(this.mutex, () => {
      const container = this.#container;
      if (!container) throw this.#withoutContainer();
      locked(device.mutex, () => device.open(container));
      return VfioDeviceFile.ofGroup(device, () =>
        locked(this.mutex, () => locked(device.mutex, () => device.close())),
      );
    });
  }

  #busy(why: string): ErrnoError {
    return new ErrnoError('EBUSY', `group ${this.name} can not be used: ${why}`);
  }

  #withoutContainer(): ErrnoError {
    return new ErrnoError('EINVAL', `group ${this.name} has no container`);
  }
}
