// SPDX-License-Identifier: Apache-2.0
/** Chapter B: the address spaces of processes. */
import { expect } from 'vitest';
import { Errno } from '../../src/base/errno.ts';
import type { Device } from '../../src/iommu/device.ts';
import type { ProcessMm } from '../../src/iommu/process_mm.ts';
import type { SvaBond } from '../../src/iommu/sva.ts';
import type { Rig } from './rig.ts';
import { IOVA, PAGE } from './rule_device.ts';
import type { Chapter } from './rules.ts';

function bind({ core }: Rig, device: Device, mm: ProcessMm): SvaBond {
  const bond = core.sva.bind(device, mm);
  if (typeof bond === 'number') throw new Error(`bind: ${bond}`);
  return bond;
}

export const svaRules: Chapter<'B11'> = {
  B11: [
    {
      says: 'a process has one PASID and one domain on every device that takes it, until it is gone',
      check(make) {
        const rig = make({ devices: [{}, {}] });
        const [first, second] = rig.bindTwo();
        const [mm, other] = [rig.process(), rig.process()];
        mm.copyOut(IOVA, Uint8Array.of(7));
        const [one, two] = [bind(rig, first.core, mm), bind(rig, second.core, mm)];
        const { pasid } = one;
        expect(two.pasid).toBe(pasid);
        expect([first.read(pasid), second.read(pasid)]).toEqual([7, 7]);
        const domains = [first, second].map(({ core }) => core.group?.domainAt(pasid));
        expect(domains[0]).toBe(domains[1]);
        rig.core.sva.unbind(one);
        expect([first.read(pasid), second.read(pasid)]).toEqual([undefined, 7]);
        rig.core.sva.unbind(two);
        expect(second.read(pasid)).toBeUndefined();
        const third = bind(rig, first.core, other);
        expect(third.pasid).not.toBe(pasid);
        expect(bind(rig, second.core, mm).pasid).toBe(pasid);
      },
    },
    {
      says: 'binds are counted for each device: the last unbind detaches',
      check(make) {
        const rig = make();
        const device = rig.bind();
        const mm = rig.process();
        mm.copyOut(IOVA, Uint8Array.of(7));
        const bonds = [bind(rig, device.core, mm), bind(rig, device.core, mm)];
        const seen = bonds.map((bond) => {
          const before = device.read(bond.pasid);
          rig.core.sva.unbind(bond);
          return [before, device.read(bond.pasid)];
        });
        expect(seen).toEqual([
          [7, 7],
          [7, undefined],
        ]);
      },
    },
    {
      says: 'a PASID beyond the device is EOVERFLOW, and one that is taken there EBUSY',
      check(make) {
        const rig = make({ devices: [{}, { pasidBits: 1 }] });
        const [first, second] = rig.bindTwo();
        const [one, two, three] = [rig.process(), rig.process(), rig.process()];
        expect(bind(rig, first.core, one).pasid).toBe(1);
        expect(bind(rig, second.core, one).pasid).toBe(1);
        expect(bind(rig, first.core, two).pasid).toBe(2);
        expect(rig.core.sva.bind(second.core, two)).toBe(-Errno.EOVERFLOW);
        expect(rig.core.sva.bind(second.core, three)).toBe(-Errno.ENOSPC);
        first.attach(rig.table(first, rig.space(1)), 3);
        expect(rig.core.sva.bind(first.core, three)).toBe(-Errno.EBUSY);
        expect(first.read(3)).toBe(1);
      },
    },
    {
      says: 'a device asks for the pages of the process, and is given what the process may have',
      check(make) {
        const rig = make();
        const device = rig.bind();
        const mm = rig.process();
        const { pasid } = bind(rig, device.core, mm);
        expect(device.read(pasid)).toBeUndefined();
        device.ask(1, { pasid });
        expect(device.answer(1)).toBe('SUCCESS');
        expect([device.read(pasid), mm.pageFaults]).toEqual([0, 1]);
        mm.mprotect(IOVA, PAGE, {});
        expect(device.read(pasid)).toBeUndefined();
        device.ask(2, { pasid });
        expect(device.answer(2)).toBe('INVALID');
        mm.munmap(IOVA, PAGE);
        device.ask(3, { pasid });
        expect(device.answer(3)).toBe('INVALID');
        expect(device.read(pasid)).toBeUndefined();
      },
    },
    {
      says: 'the exit of a process leaves its PASID attached, and nothing behind it',
      check(make) {
        const rig = make();
        const device = rig.bind();
        const [mm, next] = [rig.process(), rig.process()];
        mm.copyOut(IOVA, Uint8Array.of(7));
        const bond = bind(rig, device.core, mm);
        const { pasid } = bond;
        expect(device.read(pasid)).toBe(7);
        mm.exit();
        expect(device.read(pasid)).toBeUndefined();
        device.ask(1, { pasid });
        expect(device.answer(1)).toBe('INVALID');
        expect(device.core.group?.pasids.has(pasid)).toBe(true);
        expect(bind(rig, device.core, next).pasid).not.toBe(pasid);
        expect(rig.core.sva.pasidsInUse).toBe(2);
        rig.core.sva.unbind(bond);
        expect(device.core.group?.pasids.has(pasid)).toBe(false);
        expect(rig.core.sva.pasidsInUse).toBe(1);
        device.ask(2, { pasid });
        expect(device.answer(2)).not.toBe('none');
      },
    },
  ],
};
