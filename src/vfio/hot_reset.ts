// SPDX-License-Identifier: Apache-2.0
/**
 * Resets of a slot or a bus. Every function here is on a root bus, without a bridge or a slot above it that could reset it, and
 * there Linux answers ENODEV after its checks.
 */
import type { vfio_pci_hot_reset, vfio_pci_hot_reset_info } from '../abi/vfio.ts';
import type { Cmd } from '../abi/struct.ts';
import { ErrnoError } from '../base/errno.ts';
import type { VfioCall } from './call.ts';

const onRootBus = (name: string): ErrnoError =>
  new ErrnoError('ENODEV', `${name} is on a root bus: no bridge or slot above it can reset it`);

/** VFIO_DEVICE_GET_PCI_HOT_RESET_INFO */
export function getHotResetInfo(call: VfioCall<Cmd<typeof vfio_pci_hot_reset_info>>): void {
  throw onRootBus(call.device.name);
}

/** VFIO_DEVICE_PCI_HOT_RESET */
export function hotReset(call: VfioCall<Cmd<typeof vfio_pci_hot_reset>>): void {
  const { cmd, device } = call;
  if (cmd.flags) throw new ErrnoError('EINVAL', `unknown flags 0x${cmd.flags.toString(16)}`);
  if (cmd.count) {
    throw new ErrnoError(
      'EINVAL',
      'a device that was opened as a cdev is reset without group descriptors',
    );
  }
  throw onRootBus(device.name);
}
