// SPDX-License-Identifier: Apache-2.0
import { ErrnoError } from '../base/errno.ts';
import { withCleanup } from '../base/cleanup.ts';
import { NO_PASID } from '../iommu/device.ts';
import { attachDevice, detachDevice, replaceDevice } from '../iommufd/change_pt.ts';
import type { Context } from '../iommufd/context.ts';
import { type BindOptions, IommufdDevice } from '../iommufd/device.ts';
import { compatIoas } from '../iommufd/vfio_compat.ts';
import type { PciFunction } from '../pci/function.ts';
import { Mutex } from '../sim/lock.ts';
import type { Faults } from '../sim/faults.ts';
import type { Sim } from '../sim/sim.ts';
import type { VfioGroup } from './group.ts';
import { DEV_SET_LOCK } from './locks.ts';
import { VfioPciCore } from './pci_core.ts';

/** Ids of PASIDs are handed out as a signed number can hold. */
const LAST_PASID = 0x7fff_ffff;

/**
 * A device that clients can have (struct vfio_device). One open file at a time has it bound to a context of iommufd; all other
 * files of it can only wait.
 */
export class VfioDevice {
  readonly pci: VfioPciCore;
  /** Guards who has it, and what it is attached to (the lock of its device set in Linux). */
  readonly mutex: Mutex;
  /** The group that it can be had by, too. */
  readonly group: VfioGroup;
  readonly #options: BindOptions;
  #bound: IommufdDevice | undefined;
  #attached = false;
  /** Files of it that were opened through its group. */
  #opened = 0;
  readonly #pasids = new Set<number>();

  readonly faults: Faults;

  constructor(fn: PciFunction, group: VfioGroup, sim: Sim, options: BindOptions = {}) {
    this.group = group;
    group.devices.push(this);
    this.pci = new VfioPciCore(fn, sim);
    this.faults = sim.faults;
    this.mutex = new Mutex(sim, DEV_SET_LOCK);
    this.#options = options;
  }

  get name(): string {
    return this.pci.fn.bdf;
  }

  /** Bound to a context by one of its files. */
  get isBound(): boolean {
    return this.#bound !== undefined;
  }

  get #device(): IommufdDevice {
    if (!this.#bound) throw new Error(`${this.name} is used before it was bound`);
    return this.#bound;
  }

  /**
   * Binds it to a context and opens it; the id of the device object there.
   * @throws ErrnoError EINVAL (another file has it), and as `IommufdDevice.claim`
   */
  bind(context: Context): number {
    if (this.#bound) {
      throw new ErrnoError('EINVAL', `${this.name} is bound by another open file of it`);
    }
    return withCleanup((cleanup) => {
      const bound = IommufdDevice.claim(context, this.pci.fn.device, this.#options);
      cleanup.defer(() => bound.unbind());
      this.pci.enable();
      this.#bound = bound;
      return bound.id;
    });
  }

  /**
   * Opens it through its group: the first time it is bound to the container and attached to the address space there.
   * @throws ErrnoError as `bind` and `attach`, and ENODEV (the container has lost its address space); nothing has changed then
   */
  open(container: Context): void {
    if (this.#opened === 0) {
      withCleanup((cleanup) => {
        this.bind(container);
        cleanup.defer(() => this.unbind());
        this.attach(compatIoas(container).id);
      });
    }
    this.#opened++;
  }

  /** Undoes `open`; the last of them closes it. */
  close(): void {
    if (--this.#opened === 0) this.unbind();
  }

  /** Closes it: no DMA and no interrupt, then reset, then detached and unbound. */
  unbind(): void {
    const bound = this.#device;
    this.pci.disable();
    for (const pasid of this.#pasids) detachDevice(bound.context, bound, pasid);
    this.#pasids.clear();
    this.detach();
    this.#bound = undefined;
    bound.unbind();
  }

  /** Attaches it to an IOAS or a table, or moves it there; the id of the table. Throws with nothing changed. */
  attach(id: number): number {
    if (this.#attached) return replaceDevice(this.#device, NO_PASID, id);
    const table = attachDevice(this.#device, NO_PASID, id);
    this.#attached = true;
    return table;
  }

  /** Undoes `attach`: DMA is blocked. Nothing happens where nothing is attached. */
  detach(): void {
    if (!this.#attached) return;
    detachDevice(this.#device.context, this.#device, NO_PASID);
    this.#attached = false;
  }

  /** As `attach`, for requests with a PASID. Throws ENOSPC for one that can not be counted, EOPNOTSUPP. */
  attachPasid(pasid: number, id: number): number {
    if (this.#pasids.has(pasid)) return replaceDevice(this.#device, pasid, id);
    if (pasid > LAST_PASID) throw new ErrnoError('ENOSPC', `PASID ${pasid} is above ${LAST_PASID}`);
    const table = attachDevice(this.#device, pasid, id);
    this.#pasids.add(pasid);
    return table;
  }

  detachPasid(pasid: number): void {
    if (this.#pasids.delete(pasid)) detachDevice(this.#device.context, this.#device, pasid);
  }
}
