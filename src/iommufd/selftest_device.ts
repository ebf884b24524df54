// SPDX-License-Identifier: Apache-2.0
/** Mock devices: made, bound and attached in one command of the test driver (selftest.c). */
import { IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS } from '../abi/iommufd_test.ts';
import { withCleanup } from '../base/cleanup.ts';
import { ErrnoError } from '../base/errno.ts';
import { type Device, NO_PASID } from '../iommu/device.ts';
import { attachDevice, detachDevice, replaceDevice } from './change_pt.ts';
import { checkErrno } from './check.ts';
import type { Context } from './context.ts';
import { IommufdDevice } from './device.ts';
import { IommufdObject } from './objects.ts';
import type { TestCall } from './selftest.ts';
import type { TestHardware } from './test_hardware.ts';

/** A mock device with its binding: destroying it detaches, unbinds and removes the device. */
class SelftestDevice extends IommufdObject {
  readonly type = 'SELFTEST';
  readonly context: Context;
  bound: IommufdDevice | undefined = undefined;
  device: Device | undefined = undefined;

  constructor(context: Context) {
    super();
    this.context = context;
  }

  override destroy(): void {
    const { bound } = this;
    if (bound) {
      const pasids = [...bound.group.attachments].filter(([, { devices }]) => devices.has(bound));
      for (const [pasid] of pasids) detachDevice(this.context, bound, pasid);
      bound.unbind();
    }
    if (this.device) hardware(this.context).destroyDevice(this.device);
  }
}

function hardware(context: Context): TestHardware {
  const { testHardware } = context.iommufd;
  if (testHardware) return testHardware;
  throw new ErrnoError('EOPNOTSUPP', 'this machine has no test IOMMU');
}

/** IOMMU_TEST_OP_MOCK_DOMAIN and _FLAGS */
export function mockDomain({ call, cmd }: TestCall<'mock_domain_flags' | 'mock_domain'>): void {
  const { context } = call;
  const { u: arms } = cmd;
  withCleanup((cleanup) => {
    const made = new SelftestDevice(context);
    context.objects.reserve(made);
    cleanup.defer(() => context.objects.abort(made));
    const flags = cmd.op === IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS ? arms.mock_domain_flags.dev_flags : 0;
    const device = hardware(context).createDevice(flags);
    if (typeof device === 'number')
      throw checkErrno(device, `no mock device with flags 0x${flags.toString(16)}`);
    cleanup.defer(() => hardware(context).destroyDevice(device));
    const bound = IommufdDevice.claim(context, device, { selftest: true });
    cleanup.defer(() => bound.unbind());
    const hwptId = attachDevice(bound, NO_PASID, cmd.id);
    cleanup.defer(() => detachDevice(context, bound, NO_PASID));
    arms.mock_domain.out_hwpt_id = hwptId;
    arms.mock_domain.out_stdev_id = made.id;
    arms.mock_domain.out_idev_id = bound.id;
    call.respond();
    made.bound = bound;
    made.device = device;
    context.objects.finalize(made);
  });
}

/** Runs `body` with the binding of a mock device; throws ENOENT where there is none of that id. */
export function withMockDevice<R>(
  context: Context,
  id: number,
  body: (device: IommufdDevice) => R,
): R {
  return context.withObject(id, SelftestDevice, 'a mock device', ({ bound }) => {
    if (!bound) throw new ErrnoError('EINVAL', `mock device ${id} is not bound`);
    return body(bound);
  });
}

/** IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE */
export function mockDomainReplace({ call, cmd, arg }: TestCall<'mock_domain_replace'>): void {
  withMockDevice(call.context, cmd.id, (device) => {
    arg.pt_id = replaceDevice(device, NO_PASID, arg.pt_id);
    call.respond();
  });
}

/** IOMMU_TEST_OP_DEV_CHECK_CACHE: EINVAL where the entry is not what the caller expects. */
export function checkDevCache({
  call,
  cmd,
  arg: { id, cache },
}: TestCall<'check_dev_cache'>): void {
  call.context.withObject(cmd.id, IommufdDevice, 'a device', ({ device }) => {
    const found = hardware(call.context).cacheEntry(device, id);
    if (found === cache) return;
    throw new ErrnoError('EINVAL', `cache entry ${id} is ${found ?? 'not there'}, not ${cache}`);
  });
}
