// SPDX-License-Identifier: Apache-2.0
import { type StructType, struct } from '../abi/struct.ts';
import { ErrnoError } from '../base/errno.ts';
import { locked } from '../iommufd/locks.ts';
import type { DeviceFile, IoctlResult, MmapRequest } from '../kernel/file.ts';
import type { Task } from '../kernel/task.ts';
import { VfioCall } from './call.ts';
import type { VfioDevice } from './device.ts';
import { type DeviceOp, deviceOps } from './ioctls.ts';
import { callRecord, noteStruct } from './record.ts';
import { regionAt, regionName } from './regions.ts';

const byNumber = new Map(deviceOps.map((op) => [op.number, op]));

const NO_STRUCT: StructType<unknown> = struct('', {});

/** Why nothing works on a file before VFIO_DEVICE_BIND_IOMMUFD. */
const unbound = (name: string): ErrnoError =>
  new ErrnoError('EINVAL', `${name} is not bound: VFIO_DEVICE_BIND_IOMMUFD comes first`);

/**
 * An open `/dev/vfio/devices/vfioN` (struct vfio_device_file). Opening it gives nothing but a place in the queue: until it is
 * bound all else is EINVAL, and closing it gives the device back.
 */
export class VfioDeviceFile implements DeviceFile {
  readonly name: string;
  recording = false;
  /** Why the last pread, pwrite or mmap was refused. */
  refusal = '';
  /** This file has the device; set by VFIO_DEVICE_BIND_IOMMUFD, or from the beginning where its group was asked for it. */
  isBound = false;
  /** It came from the device's group: the group's container is what it is bound and attached to, and that stays so. */
  isOfGroup = false;
  readonly device: VfioDevice;
  readonly #onRelease: () => void;

  /** `name` is what /proc/PID/fd shows. */
  constructor(device: VfioDevice, name: string, onRelease: () => void) {
    this.device = device;
    this.name = name;
    this.#onRelease = onRelease;
  }

  /** A file of a device that its group was asked for. */
  static ofGroup(device: VfioDevice, onRelease: () => void): VfioDeviceFile {
    const file = new VfioDeviceFile(device, 'anon_inode:[vfio-device]', onRelease);
    file.isBound = true;
    file.isOfGroup = true;
    return file;
  }

  ioctl(task: Task, cmd: number, arg: bigint): IoctlResult {
    const known = byNumber.get(cmd);
    const op = this.isOfGroup && known?.isCdevOnly ? undefined : known;
    // What is read only to be shown is no part of the call.
    const { faults } = this.device;
    const before =
      this.recording && op ? faults.aside(() => noteStruct(op, task.mm, arg)) : undefined;
    let value = 0;
    let why = '';
    try {
      this.#run(op, task, cmd, arg);
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
      value = -error.errno;
      why = error.message;
    }
    const call = this.recording
      ? faults.aside(() => callRecord(op, before, task.mm, arg))
      : undefined;
    return { value, why, call };
  }

  #run(op: DeviceOp | undefined, task: Task, cmd: number, arg: bigint): void {
    if (!this.isBound && !op?.beforeBind) throw unbound(this.device.name);
    if (!op) throw new ErrnoError('ENOTTY', `a PCI device has no ioctl 0x${cmd.toString(16)}`);
    const { type = NO_STRUCT, minSize } = op;
    const call = new VfioCall<{ argsz?: number }>(this.device, task, arg, type);
    if (minSize) {
      call.fetch(0, minSize);
      const { argsz = 0 } = call.cmd;
      if (argsz < minSize) throw new ErrnoError('EINVAL', `argsz ${argsz} is less than ${minSize}`);
    }
    if (op.beforeBind) op.execute(call as never, this);
    else this.device.pci.power.awake(() => op.execute(call as never, this));
  }

  /** Reads a region; see GET_REGION_INFO for where each begins. EINVAL, EFAULT (beyond config space), EIO (BARs are off). */
  pread(_task: Task, offset: bigint, into: Uint8Array): number {
    return this.#access(into.length, () => this.device.pci.read(offset, into));
  }

  /** Writes a region, as `pread`. */
  pwrite(_task: Task, offset: bigint, from: Uint8Array): number {
    return this.#access(from.length, () => this.device.pci.write(offset, from));
  }

  /** mmap(2) is refused for every region; always -EINVAL. */
  mmap(_task: Task, { offset }: MmapRequest): number {
    return this.#access(1, () => {
      const { index } = regionAt(offset);
      const region = regionName(index);
      throw new ErrnoError(
        'EINVAL',
        region
          ? `region ${region} can not be mapped (GET_REGION_INFO says so): use pread and pwrite`
          : `there is no region ${index}`,
      );
    });
  }

  #access(length: number, access: () => number): number {
    try {
      if (!this.isBound) throw unbound(this.device.name);
      return length === 0 ? 0 : this.device.pci.power.awake(access);
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
      this.refusal = error.message;
      return -error.errno;
    }
  }

  /** The last close: the device is stopped, reset, detached and unbound; of a group's files the last one does that. */
  release(): void {
    const { device } = this;
    if (this.isBound && !this.isOfGroup) {
      locked(device.mutex, () => device.unbind());
      device.group.unblock();
    }
    this.isBound = false;
    this.#onRelease();
  }
}
