// SPDX-License-Identifier: Apache-2.0
import {
  VFIO_DEVICE_IOEVENTFD_SIZE_MASK,
  VFIO_PCI_BAR5_REGION_INDEX,
  type vfio_device_ioeventfd,
} from '../abi/vfio.ts';
import type { Cmd } from '../abi/struct.ts';
import { ErrnoError } from '../base/errno.ts';
import type { EventFd } from '../kernel/file.ts';
import type { AccessWidth } from '../pci/bar.ts';
import type { VfioCall } from './call.ts';
import { holdEventFd } from './eventfd.ts';
import { regionAt } from './regions.ts';

/** A function can have so many. Source: Linux drivers/vfio/pci/vfio_pci_rdwr.c (VFIO_PCI_IOEVENTFD_MAX). */
const MOST = 1000;

/** A write that an eventfd stands for. */
export interface RegisterWrite {
  readonly bar: number;
  readonly offset: number;
  readonly width: AccessWidth;
  readonly value: bigint;
}

const isSame = (a: RegisterWrite, b: RegisterWrite): boolean =>
  a.bar === b.bar && a.offset === b.offset && a.width === b.width && a.value === b.value;

/** Writes of registers that a client makes by signalling eventfds. */
export class IoEventFds {
  readonly #all: { readonly write: RegisterWrite; readonly eventfd: EventFd }[] = [];

  /** `hold` takes the eventfd. Throws EEXIST (there is one for that write), ENOSPC, and what `hold` throws. */
  add(write: RegisterWrite, hold: () => EventFd, perform: () => void): void {
    if (this.#all.some((one) => isSame(one.write, write)))
      throw new ErrnoError('EEXIST', 'an eventfd stands for that write already');
    if (this.#all.length >= MOST)
      throw new ErrnoError('ENOSPC', `${MOST} eventfds stand for writes already`);
    const eventfd = hold();
    this.#all.push({ write, eventfd });
    eventfd.watch(perform);
  }

  /** Throws ENODEV where no eventfd stands for that write. */
  remove(write: RegisterWrite): void {
    const index = this.#all.findIndex((one) => isSame(one.write, write));
    if (index < 0) throw new ErrnoError('ENODEV', 'no eventfd stands for that write');
    for (const { eventfd } of this.#all.splice(index, 1)) eventfd.close();
  }

  close(): void {
    for (const { eventfd } of this.#all.splice(0)) eventfd.close();
  }
}

/** VFIO_DEVICE_IOEVENTFD. Throws EINVAL, EBADF, and as `IoEventFds`. */
export function ioeventfd(call: VfioCall<Cmd<typeof vfio_device_ioeventfd>>): void {
  const { cmd, device, task } = call;
  const { flags, data, fd } = cmd;
  const invalid = (why: string): ErrnoError => new ErrnoError('EINVAL', why);
  const unknown = flags & ~VFIO_DEVICE_IOEVENTFD_SIZE_MASK;
  if (unknown) throw invalid(`unknown flags 0x${(unknown >>> 0).toString(16)}`);
  if (flags !== 1 && flags !== 2 && flags !== 4 && flags !== 8)
    throw invalid('exactly one size is needed');
  if (fd < -1) throw invalid(`descriptor ${fd}: -1 takes the eventfd away`);
  const { index: bar, offset } = regionAt(cmd.offset);
  if (bar > VFIO_PCI_BAR5_REGION_INDEX) throw invalid(`region ${bar} is no BAR`);
  const { pci } = device;
  if (offset + flags > pci.regionBytes(bar))
    throw invalid(`the write is beyond the ${pci.regionBytes(bar)} bytes of BAR ${bar}`);
  if (pci.isTouchingTable(bar, offset, flags)) throw invalid('the table of MSI-X is the host’s');
  if (flags === 8) throw invalid('8 bytes at once can not be written, as on Linux');
  const write: RegisterWrite = { bar, offset, width: flags, value: data };
  if (fd < 0) return pci.ioeventfds.remove(write);
  pci.ioeventfds.add(
    write,
    () => holdEventFd(task, fd),
    () => pci.performWrite(write),
  );
}
