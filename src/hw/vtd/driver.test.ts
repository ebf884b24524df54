// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Prng } from '../../base/prng.ts';
import { hi, lo } from '../../base/u64.ts';
import { IntelIommu } from '../../drivers/intel/intel_iommu.ts';
import { IntelPagingDomain } from '../../drivers/intel/paging_domain.ts';
import { allocUserDomain } from '../../iommu/alloc.ts';
import { attach, detach, replace } from '../../iommu/attach.ts';
import { IommuCore } from '../../iommu/core.ts';
import { Device, NO_PASID } from '../../iommu/device.ts';
import { AttachHandle } from '../../iommu/handle.ts';
import { claimDmaOwner } from '../../iommu/ownership.ts';
import { Ram } from '../../memory/ram.ts';
import { Sim } from '../../sim/sim.ts';
import { Access } from './access.ts';
import { Capabilities, LEGACY, SCALABLE, type VtdDescription } from './capabilities.ts';
import { VtdUnit } from './vtd_unit.ts';

/** Driver and model are two readings of one specification: here they meet. */
const SOURCE = 0x318;
const SEQUENCES = Number(process.env['VTD_SEQUENCES'] ?? 1500);

function machine(description: VtdDescription) {
  const sim = new Sim({ checkLocks: true });
  const core = new IommuCore({ sim });
  const unit = new VtdUnit({
    sim,
    ram: new Ram({ faults: sim.faults }),
    caps: Capabilities.of(description),
  });
  const driver = new IntelIommu(core);
  const started = driver.addUnit('dmar0', unit.hardware);
  if (typeof started === 'number') throw new Error(`the unit did not start: ${started}`);
  const device = new Device('dev');
  expect(driver.addDevice(device, started, { sourceId: SOURCE })).toBe(0);
  claimDmaOwner(device, {});
  const paging = (flags = 0): IntelPagingDomain => {
    const domain = allocUserDomain(device, { flags });
    if (!(domain instanceof IntelPagingDomain)) throw new Error('no paging domain');
    return domain;
  };
  return { unit, device, paging, sim };
}

const wide: VtdDescription = { ...LEGACY, cap: { ...LEGACY.cap, SAGAW: 0b00100 } };
const noLarge: VtdDescription = { ...LEGACY, cap: { ...LEGACY.cap, SSLPS: 0, PSI: 0 } };
const incoherent: VtdDescription = { ...LEGACY, ecap: { ...LEGACY.ecap, C: 0 } };
const secondOnly: VtdDescription = {
  ...SCALABLE,
  cap: { ...SCALABLE.cap, SAGAW: 0b00100, MGAW: 47 },
  ecap: { ...SCALABLE.ecap, FSTS: 0, NEST: 0 },
};
const incoherentScalable: VtdDescription = {
  ...SCALABLE,
  ecap: { ...SCALABLE.ecap, C: 0, SMPWCS: 0, SSADS: 0 },
};

describe('The driver and the model agree', () => {
  it.each([
    ['legacy', LEGACY],
    ['legacy, 4 levels only', wide],
    ['legacy, without large pages and page invalidations', noLarge],
    ['legacy, incoherent', incoherent],
    ['legacy, caching mode', { ...LEGACY, cap: { ...LEGACY.cap, CM: 1 } }],
    ['scalable, first stage', SCALABLE],
    ['scalable, second stage', secondOnly],
    ['scalable, caching mode', { ...SCALABLE, cap: { ...SCALABLE.cap, CM: 1 } }],
    ['scalable, incoherent', incoherentScalable],
  ] as const)('on random maps, unmaps, replaces and accesses: %s', (_, description) => {
    const { unit, device, paging } = machine(description);
    const random = new Prng(9);
    // Pages of 4 KiB by domain: target page and whether it can be written.
    const domains = [0, 1].map(() => ({
      domain: paging(),
      pages: new Map<number, [number, boolean]>(),
      areas: [] as { start: number; count: number }[],
    }));
    let current: (typeof domains)[number] | undefined = undefined;
    for (let i = 0; i < SEQUENCES; i++) {
      const picked = domains[random.below(2)];
      if (!picked) throw new Error('no domain');
      const { domain, pages } = picked;
      const start = random.below(2) === 0 ? random.below(64) : 512 * random.below(4);
      const count = random.below(3) === 0 ? 512 : 1 + random.below(8);
      const kind = random.below(10);
      if (kind < 4) {
        if (Array.from({ length: count }, (_p, n) => start + n).some((page) => pages.has(page)))
          continue;
        const target = 0x1000_0000 + (random.below(2) === 0 ? start : random.below(1 << 20));
        const isWritable = random.below(3) > 0;
        expect(domain.map(BigInt(start) * 4096n, target * 2, count * 2, isWritable ? 3 : 1)).toBe(
          0,
        );
        picked.areas.push({ start, count });
        for (let n = 0; n < count; n++) pages.set(start + n, [target + n, isWritable]);
      } else if (kind < 6) {
        const area = picked.areas.splice(random.below(picked.areas.length || 1), 1)[0];
        if (!area) continue;
        expect(domain.unmap(BigInt(area.start) * 4096n, area.count * 2)).toBe(area.count * 2);
        for (let n = 0; n < area.count; n++) pages.delete(area.start + n);
      } else if (kind < 7 && current !== picked) {
        const rc: number = current
          ? replace(device, NO_PASID, domain, new AttachHandle())
          : attach(device, NO_PASID, domain, new AttachHandle());
        expect(rc).toBe(0);
        current = picked;
      } else if (kind === 7 && random.below(4) === 0 && current) {
        detach(device, NO_PASID, current.domain);
        current = undefined;
      }
      for (let n = 0; n < 6; n++) {
        const page = n < 3 ? start + random.below(count) : random.below(2048);
        const isWrite = random.below(2) === 1;
        const address = BigInt(page) * 4096n;
        const answer = unit.translate(
          SOURCE,
          -1,
          lo(address),
          hi(address),
          isWrite ? Access.WRITE : Access.READ,
        );
        const mapped: [number, boolean] | undefined = current?.pages.get(page);
        if (mapped && (mapped[1] || !isWrite)) expect(answer).toBe(mapped[0]);
        else expect(answer).toBeLessThan(0);
      }
    }
  });
});
