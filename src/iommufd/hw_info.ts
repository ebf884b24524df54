// SPDX-License-Identifier: Apache-2.0
import {
  IOMMU_HW_CAP_DIRTY_TRACKING,
  IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED,
  IOMMU_HW_CAP_PCI_PASID_EXEC,
  IOMMU_HW_CAP_PCI_PASID_PRIV,
  IOMMU_HW_INFO_FLAG_INPUT_TYPE,
  IOMMU_HW_INFO_TYPE_DEFAULT,
  IOMMU_HW_INFO_TYPE_NONE,
  type iommu_hw_info,
} from '../abi/iommufd.ts';
import type { Cmd } from '../abi/struct.ts';
import { IommuCap } from '../iommu/ops.ts';
import { type Call, checkFlags, checkReserved, copyToUser } from './call.ts';
import { checkErrno } from './check.ts';
import { IommufdDevice } from './device.ts';

const NO_INFO = { type: IOMMU_HW_INFO_TYPE_NONE, data: new Uint8Array() };

/** IOMMU_GET_HW_INFO: the driver's structure as far as it fits, zeroes behind it, and what core knows of the device. */
export function getHwInfo(call: Call<Cmd<typeof iommu_hw_info>>): void {
  const { cmd, context } = call;
  checkFlags(cmd.flags, IOMMU_HW_INFO_FLAG_INPUT_TYPE);
  checkReserved(...cmd.__reserved);
  const wanted =
    cmd.flags & IOMMU_HW_INFO_FLAG_INPUT_TYPE ? cmd.u.in_data_type : IOMMU_HW_INFO_TYPE_DEFAULT;
  const bound = context.objects.get(cmd.dev_id, IommufdDevice, 'a device');
  try {
    const { device } = bound;
    const info = device.iommu?.ops.hwInfo?.(device, wanted) ?? NO_INFO;
    if (typeof info === 'number')
      throw checkErrno(info, `${device.name} has no information of type 0x${wanted.toString(16)}`);
    writeData(call, info.data);
    cmd.u.out_data_type = info.type;
    cmd.data_len = info.data.length;
    cmd.out_capabilities = BigInt(
      (bound.capable(IommuCap.DIRTY_TRACKING) ? IOMMU_HW_CAP_DIRTY_TRACKING : 0) |
        (bound.capable(IommuCap.PCI_ATS_SUPPORTED) ? 0 : IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED) |
        (device.maxPasids && device.pasidExecute ? IOMMU_HW_CAP_PCI_PASID_EXEC : 0) |
        (device.maxPasids && device.pasidPrivileged ? IOMMU_HW_CAP_PCI_PASID_PRIV : 0),
    );
    cmd.out_max_pasid_log2 = device.maxPasids ? Math.floor(Math.log2(device.maxPasids)) : 0;
    call.respond();
  } finally {
    context.objects.put(bound);
  }
}

/** Zeroes that a client's larger buffer is filled with are written this many at a time. */
const CHUNK = 65536;

function writeData(call: Call<Cmd<typeof iommu_hw_info>>, data: Uint8Array): void {
  const { data_uptr: address, data_len: room } = call.cmd;
  const { mm } = call.task;
  const known = Math.min(room, data.length);
  if (known) copyToUser(mm, address, data.subarray(0, known));
  const zeroes = new Uint8Array(Math.min(CHUNK, room - known));
  for (let done = known; done < room; done += CHUNK) {
    copyToUser(mm, address + BigInt(done), zeroes.subarray(0, Math.min(CHUNK, room - done)));
  }
}
