// SPDX-License-Identifier: Apache-2.0
/** What a program can not do to a device it has, whatever it writes; and what is left when memory runs out. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  VFIO_PCI_CONFIG_REGION_INDEX as CONFIG,
  VFIO_PCI_MSI_IRQ_INDEX as MSI,
} from '../abi/vfio.ts';
import { LocalClient } from '../iommufd/local_client.ts';
import { Machine } from '../machine/machine.ts';
import { sweepFaults } from '../sim/faults.ts';
import { Sim } from '../sim/sim.ts';
import { BAR_BYTES, FakeRegisters, FakeRig } from './fake_rig.ts';
import { LocalEventFd, LocalVfioClient } from './local_client.ts';
import { regionOffset } from './regions.ts';

const runs = { numRuns: 200, seed: 4 };

function makeRig(): FakeRig {
  const rig = new FakeRig({
    interruptPin: 1,
    msi: { vectors: 4, maskable: true },
    msix: { vectors: 4, bar: 0, tableOffset: 0, pbaOffset: 0x800 },
    bars: [{ index: 0, size: BAR_BYTES, handler: new FakeRegisters(BAR_BYTES) }],
  });
  rig.device.close();
  rig.fn.placeBar(0, 0xfe00_0000n);
  return rig;
}

const write = fc.record({
  offset: fc.nat(0xff),
  bytes: fc.uint8Array({ minLength: 1, maxLength: 24 }),
});

it('no writes to config space move a BAR, enable messages, or change what the device is', () => {
  fc.assert(
    fc.property(fc.array(write, { maxLength: 20 }), (writes) => {
      const rig = makeRig();
      const device = rig.open();
      const before = rig.fn.config.save();
      for (const { offset, bytes } of writes) device.write(CONFIG, offset, bytes);
      expect(rig.fn.barAddress(0)).toBe(0xfe00_0000n);
      expect([rig.fn.msi?.enabled, rig.fn.msix?.enabled]).toEqual([false, false]);
      device.close();
      const after = rig.open();
      expect(rig.fn.config.save()).toEqual(before);
      after.close();
    }),
    runs,
  );
});

it('config space reads the same byte by byte as at any width, after any writes', () => {
  const read = fc.record({ offset: fc.nat(0xe0), length: fc.integer({ min: 1, max: 32 }) });
  fc.assert(
    fc.property(fc.array(write, { maxLength: 8 }), read, (writes, { offset, length }) => {
      const rig = makeRig();
      const device = rig.open();
      for (const one of writes) device.write(CONFIG, one.offset, one.bytes);
      const bytes = Array.from({ length }, (_, i) => device.read(CONFIG, offset + i, 1)[0]);
      expect([...device.read(CONFIG, offset, length)]).toEqual(bytes);
    }),
    runs,
  );
});

it('any access anywhere is answered by a count or an errno', () => {
  const access = fc.record({
    region: fc.nat(12),
    offset: fc.oneof(fc.nat(0x2000), fc.nat(0xffff_ffff)),
    length: fc.nat(40),
    isWrite: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(access, { maxLength: 10 }), (all) => {
      const { file, process } = makeRig().open();
      for (const { region, offset, length, isWrite } of all) {
        const at = regionOffset(region) + BigInt(offset);
        const bytes = new Uint8Array(length);
        const done = isWrite ? file.pwrite(process, at, bytes) : file.pread(process, at, bytes);
        expect(done).toBeGreaterThan(-134);
        expect(done).toBeLessThanOrEqual(length);
      }
    }),
    runs,
  );
});

it('bind, attach and interrupts with the n-th allocation failing leave nothing behind', () => {
  const points = sweepFaults((faults, nth) => {
    faults.clear();
    const machine = new Machine({ sim: new Sim({ faults, checkLocks: true }) });
    const iommu = new LocalClient(machine.iommufd);
    const cdev = machine.vfio.cdev('vfio0');
    if (!cdev) throw new Error('the default machine has no PCI device');
    const pt_id = iommu.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
    const device = new LocalVfioClient(cdev, iommu.process);
    const event = new LocalEventFd();
    const fd = iommu.process.add(event);
    faults.plan({ nth });
    const bound = device.tryCall('VFIO_DEVICE_BIND_IOMMUFD', { iommufd: iommu.fd }).result;
    expect(cdev.device.isBound).toBe(bound.value === 0);
    if (bound.value === 0) {
      const attached = device.tryCall('VFIO_DEVICE_ATTACH_IOMMUFD_PT', { pt_id }).result;
      expect(attached.value === 0 || faults.injected !== undefined).toBe(true);
      device.setEventFds(MSI, [fd]);
    }
    device.close();
    expect([cdev.device.isBound, event.held]).toEqual([false, 0]);
    expect([...iommu.file.context.objects].map(({ type }) => type)).toEqual(['IOAS']);
    expect(machine.iommufd.core.warnings).toEqual([]);
  });
  expect(points).toBeGreaterThan(3);
});
