// SPDX-License-Identifier: Apache-2.0
import type { Attachable } from './attachments.ts';
import type { DeviceInfo } from './device_info.ts';
import type { Slot } from './slot.ts';

/**
 * One way by which a device's requests come: without PASID (number 0), or with one. What is attached there, and the table entry that says
 * so. Counterpart of `struct dev_pasid_info`.
 */
export class DevicePasid {
  readonly info: DeviceInfo;
  readonly pasid: number;
  readonly slot: Slot;
  /** Undefined is blocked. */
  attached: Attachable | undefined = undefined;

  constructor(info: DeviceInfo, pasid: number, slot: Slot) {
    this.info = info;
    this.pasid = pasid;
    this.slot = slot;
  }
}
