// SPDX-License-Identifier: Apache-2.0
/** VFIO_DEVICE_FEATURE: the frame, and what each feature answers or does (vfio_main.c, vfio_pci_core.c). */
import * as uapi from '../abi/vfio.ts';
import type { Cmd } from '../abi/struct.ts';
import { type ErrnoName, ErrnoError } from '../base/errno.ts';
import type { VfioCall } from './call.ts';
import { holdEventFd } from './eventfd.ts';

const { VFIO_DEVICE_FEATURE_GET: GET, VFIO_DEVICE_FEATURE_SET: SET } = uapi;
const { VFIO_DEVICE_FEATURE_PROBE: PROBE, VFIO_DEVICE_FEATURE_MASK: MASK } = uapi;

/** What a feature that is not there answers, to a probe as to everything else, and why. */
interface Refusal {
  readonly errno: ErrnoName;
  readonly why: string;
}

const MIGRATION: Refusal = { errno: 'ENOTTY', why: 'the device can not be migrated' };
const LOGGING: Refusal = { errno: 'ENOTTY', why: 'the device does not log its DMA' };

/** By number: features of which no device here is capable. */
const refusals: Readonly<Record<number, Refusal>> = {
  [uapi.VFIO_DEVICE_FEATURE_PCI_VF_TOKEN]: {
    errno: 'ENOTTY',
    why: 'the device has no virtual functions',
  },
  [uapi.VFIO_DEVICE_FEATURE_MIGRATION]: MIGRATION,
  [uapi.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE]: MIGRATION,
  [uapi.VFIO_DEVICE_FEATURE_MIG_DATA_SIZE]: MIGRATION,
  [uapi.VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2]: { errno: 'EINVAL', why: MIGRATION.why },
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

type Call = VfioCall<Cmd<typeof uapi.vfio_device_feature>>;

/** A feature that can be set. */
interface Settable {
  /** Bytes of its data, which follow the structure. */
  readonly bytes: number;
  set(call: Call): void;
}

const wakeup = uapi.vfio_device_low_power_entry_with_wakeup;

/** By number: features that are there. */
const settables: Readonly<Record<number, Settable>> = {
  [uapi.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY]: {
    bytes: 0,
    set: ({ device }) => device.pci.power.enter(),
  },
  [uapi.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP]: {
    bytes: wakeup.size,
    set: (call) => {
      const data = call.tail(uapi.vfio_device_feature.size, wakeup.size);
      const { wakeup_eventfd: fd } = wakeup.on(new DataView(data.buffer));
      if (fd < 0) throw new ErrnoError('EINVAL', `descriptor ${fd} is negative`);
      call.device.pci.power.enter(holdEventFd(call.task, fd));
    },
  },
  [uapi.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT]: {
    bytes: 0,
    set: ({ device }) => device.pci.power.exit(),
  },
};

function setFeature(call: Call, { bytes, set }: Settable): void {
  const { flags, argsz } = call.cmd;
  if (flags & GET) throw new ErrnoError('EINVAL', 'the feature can not be got');
  if (flags & PROBE) return;
  if (!(flags & SET)) throw new ErrnoError('EINVAL', 'neither VFIO_DEVICE_FEATURE_SET nor _PROBE');
  const room = argsz - uapi.vfio_device_feature.size;
  if (room < bytes) throw new ErrnoError('EINVAL', `${room} bytes of data are less than ${bytes}`);
  set(call);
}

/** VFIO_DEVICE_FEATURE. Throws EINVAL (flags, size), and what the feature answers. */
export function feature(call: Call): void {
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
  const settable = settables[number];
  if (settable) return setFeature(call, settable);
  const { errno, why } = refusals[number] ?? {
    errno: 'ENOTTY',
    why: `there is no feature ${number}`,
  };
  throw new ErrnoError(errno, why);
}
