// SPDX-License-Identifier: Apache-2.0
/**
 * Every ioctl of a VFIO device, in the order of their numbers: the one place that says what there is. `docs/support.md` is
 * generated from it.
 */
import * as vfio from '../abi/vfio.ts';
import type { Cmd, StructType } from '../abi/struct.ts';
import type { Status } from '../iommufd/ioctls.ts';
import { attachPt, bindIommufd, detachPt } from './bind.ts';
import type { VfioCall } from './call.ts';
import type { VfioDeviceFile } from './device_file.ts';
import { feature } from './feature.ts';
import { getHotResetInfo, hotReset } from './hot_reset.ts';
import { ioeventfd } from './ioeventfd.ts';
import { getInfo, getIrqInfo, getRegionInfo } from './info.ts';
import { setIrqs } from './set_irqs.ts';

export interface DeviceOp {
  readonly name: string;
  readonly number: number;
  /** The structure behind the argument; undefined where there is no argument. */
  readonly type: StructType<unknown> | undefined;
  /** Bytes of the structure's first version: these are read, and an argsz that is less is EINVAL. 0: `execute` reads it. */
  readonly minSize: number;
  readonly status: Status;
  /** For people: what is missing, and why. */
  readonly note: string;
  /** It works before the file is bound; all others are EINVAL then. */
  readonly beforeBind: boolean;
  /** A file that came from the device's group does not know it. */
  readonly isCdevOnly?: boolean;
  execute(call: VfioCall<never>, file: VfioDeviceFile): void;
}

/** `last` is the last field of the structure's first version. */
function op<S>(
  name: keyof typeof vfio,
  number: number,
  type: StructType<S>,
  last: keyof S & string,
  execute: (call: VfioCall<Cmd<StructType<S>>>, file: VfioDeviceFile) => void,
  status: Status = 'done',
  note = '',
): DeviceOp {
  const minSize = type.offsetofend(last);
  return {
    name,
    number,
    type,
    minSize,
    status,
    note,
    beforeBind: false,
    execute,
  };
}

const RESET: DeviceOp = {
  name: 'VFIO_DEVICE_RESET',
  number: vfio.VFIO_DEVICE_RESET,
  type: undefined,
  minSize: 0,
  status: 'done',
  note: '',
  beforeBind: false,
  execute: ({ device }) => device.pci.reset(),
};

// prettier-ignore
export const deviceOps: readonly DeviceOp[] = [
  op('VFIO_DEVICE_GET_INFO', vfio.VFIO_DEVICE_GET_INFO, vfio.vfio_device_info, 'num_irqs', getInfo),
  op('VFIO_DEVICE_GET_REGION_INFO', vfio.VFIO_DEVICE_GET_REGION_INFO, vfio.vfio_region_info, 'offset', getRegionInfo, 'partial', 'regions can not be mapped (no VFIO_REGION_INFO_FLAG_MMAP): they are read and written'),
  op('VFIO_DEVICE_GET_IRQ_INFO', vfio.VFIO_DEVICE_GET_IRQ_INFO, vfio.vfio_irq_info, 'count', getIrqInfo),
  op('VFIO_DEVICE_SET_IRQS', vfio.VFIO_DEVICE_SET_IRQS, vfio.vfio_irq_set, 'count', setIrqs),
  RESET,
  op('VFIO_DEVICE_GET_PCI_HOT_RESET_INFO', vfio.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, vfio.vfio_pci_hot_reset_info, 'count', getHotResetInfo, 'done', 'ENODEV: all functions are on a root bus'),
  op('VFIO_DEVICE_PCI_HOT_RESET', vfio.VFIO_DEVICE_PCI_HOT_RESET, vfio.vfio_pci_hot_reset, 'count', hotReset, 'done', 'ENODEV: all functions are on a root bus'),
  op('VFIO_DEVICE_IOEVENTFD', vfio.VFIO_DEVICE_IOEVENTFD, vfio.vfio_device_ioeventfd, 'fd', ioeventfd),
  op('VFIO_DEVICE_FEATURE', vfio.VFIO_DEVICE_FEATURE, vfio.vfio_device_feature, 'flags', feature, 'done', 'low power; other features need what no device here has, and are refused as vfio-pci does'),
  { ...op('VFIO_DEVICE_BIND_IOMMUFD', vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.vfio_device_bind_iommufd, 'out_devid', bindIommufd), minSize: 0, beforeBind: true },
  { ...op('VFIO_DEVICE_ATTACH_IOMMUFD_PT', vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, vfio.vfio_device_attach_iommufd_pt, 'pt_id', attachPt), isCdevOnly: true },
  { ...op('VFIO_DEVICE_DETACH_IOMMUFD_PT', vfio.VFIO_DEVICE_DETACH_IOMMUFD_PT, vfio.vfio_device_detach_iommufd_pt, 'flags', detachPt), isCdevOnly: true },
];
