// SPDX-License-Identifier: Apache-2.0
import { field, register } from '../base/register.ts';
import type { ConfigRegister } from './config_space.ts';
import { ExtendedCapabilityId, PlacedCapability } from './extended_capability.ts';
import { plain } from './header.ts';

const CONTROL = 0x08;
const NUM_VFS = 0x10;

const control = register('SR-IOV Control', {
  VfEnable: field(0, 0),
  VfMemorySpaceEnable: field(3, 3),
  AriCapableHierarchy: field(4, 4),
});

export interface SriovOptions {
  /** 1 to 255. */
  readonly totalVfs: number;
  /** From the physical function's requester id to the first VF's; 1 unless told. */
  readonly offset?: number;
  /** From one VF's requester id to the next's; 1 unless told. */
  readonly stride?: number;
  /** Device id of the VFs. */
  readonly deviceId: number;
  /** The VFs that there are from now on: their number. */
  readonly onChange?: (count: number) => void;
}

/**
 * Single Root I/O Virtualization: a physical function that makes virtual ones. Source of the layout: Linux
 * include/uapi/linux/pci_regs.h (PCI_SRIOV_*); that VF n (from 0) is at offset + n * stride: Linux drivers/pci/iov.c.
 */
export class SriovCapability extends PlacedCapability {
  override readonly name = 'SR-IOV';
  override readonly id = ExtendedCapabilityId.SRIOV;
  override readonly version = 1;
  override readonly bytes = 0x40;
  override readonly registers: readonly ConfigRegister[];
  readonly totalVfs: number;
  readonly offset: number;
  readonly stride: number;
  readonly #onChange: (count: number) => void;
  #count = 0;

  constructor(options: SriovOptions) {
    super();
    const { totalVfs, offset = 1, stride = 1, deviceId } = options;
    if (!(Number.isInteger(totalVfs) && totalVfs >= 1 && totalVfs <= 255))
      throw new RangeError(`SR-IOV with ${totalVfs} virtual functions: it is 1 to 255`);
    this.totalVfs = totalVfs;
    this.offset = offset;
    this.stride = stride;
    this.#onChange = options.onChange ?? (() => undefined);
    const ro = (name: string, at: number, bytes: 2 | 4, value = 0): ConfigRegister => ({
      ...{ at, bytes, value },
      register: plain(name, 8 * bytes, 'RO'),
    });
    this.registers = [
      ro('SR-IOV Capabilities', 0x04, 4),
      { at: CONTROL, bytes: 2, register: control },
      ro('SR-IOV Status', 0x0a, 2),
      ro('InitialVFs', 0x0c, 2, totalVfs),
      ro('TotalVFs', 0x0e, 2, totalVfs),
      { at: NUM_VFS, bytes: 2, register: plain('NumVFs', 16, 'RW') },
      ro('FirstVFOffset', 0x14, 2, offset),
      ro('VFStride', 0x16, 2, stride),
      ro('VFDeviceID', 0x1a, 2, deviceId),
      // 4 KiB alone.
      ro('SupportedPageSizes', 0x1c, 4, 1),
      { at: 0x20, bytes: 4, value: 1, register: plain('SystemPageSize', 32, 'RW') },
    ];
  }

  /** VFs that there are: NumVFs while VF Enable is set; none where NumVFs is more than TotalVFs. */
  get count(): number {
    return this.#count;
  }

  /** Requester id of VF `index`, from 0, of a physical function at `physical`; 16 bits. */
  requesterId(physical: number, index: number): number {
    return (physical + this.offset + index * this.stride) & 0xffff;
  }

  /** NumVFs does not change while VF Enable is set: what is written then has no effect until it is set again. */
  update(): void {
    const isOn = control.fields.VfEnable.get(this.get(CONTROL, 2)) === 1;
    if (isOn && this.#count > 0) {
      if (this.get(NUM_VFS, 2) !== this.#count) this.set(NUM_VFS, 2, this.#count);
      return;
    }
    const wanted = this.get(NUM_VFS, 2);
    const count = isOn && wanted <= this.totalVfs ? wanted : 0;
    if (count === this.#count) return;
    this.#count = count;
    this.#onChange(count);
  }

  /** What a driver does: so many VFs, 0 for none. False where there cannot be so many, or there are some already. */
  enable(count: number): boolean {
    if (count > this.totalVfs || (count > 0 && this.#count > 0)) return false;
    if (count > 0) this.set(NUM_VFS, 2, count);
    const { VfEnable: enable, VfMemorySpaceEnable: memory } = control.fields;
    this.set(CONTROL, 2, count > 0 ? memory.setLo(enable.setLo(0, 1), 1) : 0);
    this.update();
    return true;
  }
}
