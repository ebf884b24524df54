// SPDX-License-Identifier: Apache-2.0
/** VFIO_DEVICE_FEATURE: the frame, and what each feature answers (vfio_main.c, vfio_pci_core.c). */
import * as uapi from '../abi/vfio.ts';
import type { Cmd } from '../abi/struct.ts';
import { type ErrnoName, ErrnoError } from '../base/errno.ts';
import type { VfioCall } from './call.ts';

const { VFIO_DEVICE_FEATURE_GET: GET, VFIO_DEVICE_FEATURE_SET: SET } = uapi;
const { VFIO_DEVICE_FEATURE_PROBE: PROBE, VFIO_DEVICE_FEATURE_MASK: MASK } = uapi;

/** What a feature that is not there answers, to a probe as to everything else, and why. */
interface Refusal {
  readonly errno: ErrnoName;
  readonly why: string;
}

const MIGRATION: Refusal = { errno: 'ENOTTY', why: 'the device can not be migrated' };
const LOGGING: Refusal = { errno: 'ENOTTY', why: 'the device does not log its DMA' };
const POWER: Refusal = { errno: 'ENOTTY', why: 'low power is not built: devices are always on' };

/** By number; those that are not here are unknown. vfio-pci has only features of which no device here is capable, but for low power. */
const refusals: Readonly<Record<number, Refusal>> = {
  [uapi.VFIO_DEVICE_FEATURE_PCI_VF_TOKEN]: {
    errno: 'ENOTTY',
    why: 'the device has no virtual functions',
  },
  [uapi.VFIO_DEVICE_FEATURE_MIGRATION]: MIGRATION,
  [uapi.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE]: MIGRATION,
  [uapi.VFIO_DEVICE_FEATURE_MIG_DATA_SIZE]: MIGRATION,
  [uapi.VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2]: { errno: 'EINVAL', why: MIGRATION.why },
  [uapi.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY]: POWER,
  [uapi.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP]: POWER,
  [uapi.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT]: POWER,
  [uapi.VFIO_DEVICE_FEATURE_DMA_LOGGING_START]: LOGGING,
  [uapi.VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP]: LOGGING,
  [uapi.VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT]: LOGGING,
  [uapi.VFIO_DEVICE_FEATURE_BUS_MASTER]: {
    errno: 'ENOTTY',
    why: 'PCI devices have it in their Command register',
  },
  [uapi.VFIO_DEVICE_FEATURE_DMA_BUF]: {
    errno: 'ENOTTY',
    why: 'BARs can not be had as DMA-bufs: as a kernel without VFIO_PCI_DMABUF',
  },
};

/** VFIO_DEVICE_FEATURE. Throws EINVAL (flags), and what the feature answers. */
export function feature(call: VfioCall<Cmd<typeof uapi.vfio_device_feature>>): void {
  const { flags } = call.cmd;
  const unknown = flags & ~(MASK | SET | GET | PROBE);
  if (unknown) throw new ErrnoError('EINVAL', `unknown flags 0x${(unknown >>> 0).toString(16)}`);
  if (!(flags & PROBE) && flags & SET && flags & GET) {
    throw new ErrnoError(
      'EINVAL',
      'a feature is got or set: both only with VFIO_DEVICE_FEATURE_PROBE',
    );
  }
  const number = flags & MASK;
  const { errno, why } = refusals[number] ?? {
    errno: 'ENOTTY',
    why: `there is no feature ${number}`,
  };
  throw new ErrnoError(errno, why);
}
