// SPDX-License-Identifier: Apache-2.0
/** Virtual IOMMUs: what a guest has of a physical one (viommu.c, and the part of driver.c that drivers ask). */
import { IOMMU_VIOMMU_TYPE_DEFAULT, type iommu_viommu_alloc } from '../abi/iommufd.ts';
import type { Cmd } from '../abi/struct.ts';
import { Errno, ErrnoError } from '../base/errno.ts';
import type { Device, IommuDevice } from '../iommu/device.ts';
import type { SharedPages, ViommuDriver, ViommuHost } from '../iommu/viommu_ops.ts';
import { RwSem } from '../sim/lock.ts';
import { type Call, checkFlags } from './call.ts';
import { checkErrno } from './check.ts';
import { clientData } from './client_data.ts';
import type { Context } from './context.ts';
import { IommufdDevice } from './device.ts';
import { HwptPaging } from './hw_pagetable.ts';
import { reading, VEVENTQS_LOCK } from './locks.ts';
import { IommufdObject } from './objects.ts';
import type { Vdevice } from './vdevice.ts';
import type { VeventQueue } from './veventq.ts';

/** A guest's share of an IOMMU, on a nesting parent that it holds (struct iommufd_viommu). */
export class Viommu extends IommufdObject implements ViommuHost {
  readonly type = 'VIOMMU';
  readonly kind: number;
  readonly context: Context;
  readonly iommu: IommuDevice;
  readonly parent: HwptPaging;
  /** Devices by what the guest calls them; undefined while the driver is still being asked. */
  readonly vdevices = new Map<bigint, Vdevice | undefined>();
  readonly veventqs: VeventQueue[] = [];
  /** Guards which event queues there are. */
  readonly veventqsLock: RwSem;
  private driver_: ViommuDriver | undefined = undefined;

  constructor(context: Context, iommu: IommuDevice, parent: HwptPaging, kind: number) {
    super();
    this.context = context;
    this.iommu = iommu;
    this.parent = parent;
    parent.users++;
    this.kind = kind;
    this.veventqsLock = new RwSem(context.iommufd.sim, VEVENTQS_LOCK);
  }

  get driver(): ViommuDriver {
    if (!this.driver_) throw new Error('the driver has not made its part of the virtual IOMMU yet');
    return this.driver_;
  }

  set driver(driver: ViommuDriver) {
    this.driver_ = driver;
  }

  deviceOf(virtualId: bigint): Device | undefined {
    return this.vdevices.get(virtualId)?.device.device;
  }

  virtualIdOf(device: Device): bigint | undefined {
    for (const [virtualId, vdevice] of this.vdevices)
      if (vdevice?.device.device === device) return virtualId;
    return undefined;
  }

  /** The event queue of a kind. `veventqsLock` is held. */
  veventqOf(kind: number): VeventQueue | undefined {
    return this.veventqs.find((queue) => queue.kind === kind);
  }

  reportEvent(kind: number, data: Uint8Array): number {
    return reading(
      this.veventqsLock,
      () => this.veventqOf(kind)?.report(data) ?? -Errno.EOPNOTSUPP,
    );
  }

  sharePages(pages: number): SharedPages | number {
    const { context } = this;
    if (context.iommufd.faults.point('alloc')) return -Errno.ENOMEM;
    return context.mmaps.share(this, pages);
  }

  override destroy(): void {
    this.driver_?.destroy?.();
    this.parent.users--;
  }
}

/** IOMMU_VIOMMU_ALLOC */
export function viommuAlloc(call: Call<Cmd<typeof iommu_viommu_alloc>>): void {
  const { cmd, context, task } = call;
  checkFlags(cmd.flags, 0);
  const { type: kind, data_len: length, data_uptr: address } = cmd;
  if (kind === IOMMU_VIOMMU_TYPE_DEFAULT)
    throw new ErrnoError('EOPNOTSUPP', 'a virtual IOMMU has no default type: state one');
  const userData = length ? clientData(task.mm, kind, length, address) : undefined;
  context.withObject(cmd.dev_id, IommufdDevice, 'a device', ({ device }) => {
    const { iommu } = device;
    if (!iommu?.ops.viommuInit || !iommu.ops.hasViommu?.(device, kind)) {
      const what = `virtual IOMMUs of type 0x${kind.toString(16)}`;
      throw new ErrnoError('EOPNOTSUPP', `the driver of ${device.name} has no ${what}`);
    }
    const { viommuInit } = iommu.ops;
    context.withObject(cmd.hwpt_id, HwptPaging, 'a paging table', (parent) => {
      if (!parent.nestParent) {
        const why = 'made without IOMMU_HWPT_ALLOC_NEST_PARENT';
        throw new ErrnoError('EINVAL', `hardware page table ${parent.id} was ${why}`);
      }
      const viommu = new Viommu(context, iommu, parent, kind);
      reserve(call, viommu);
      const driver = viommuInit(viommu, parent.domain, userData);
      if (typeof driver === 'number')
        throw checkErrno(driver, 'the driver refused the virtual IOMMU');
      viommu.driver = driver;
      cmd.out_viommu_id = viommu.id;
      call.respond();
    });
  });
}

/** Takes an id for an object that the dispatcher settles; one that gets none is destroyed at once. */
export function reserve(call: Call<unknown>, object: IommufdObject): void {
  try {
    call.context.objects.reserve(object);
  } catch (error) {
    object.destroy();
    throw error;
  }
  call.newObject = object;
}
