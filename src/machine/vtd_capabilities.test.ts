// SPDX-License-Identifier: Apache-2.0
/** A machine chooses what its VT-d unit can: whatever that is, the machine works or says why it can not be. */
import { describe, expect, it } from 'vitest';
import { Prng } from '../base/prng.ts';
import * as vfio from '../abi/vfio.ts';
import { LocalClient } from '../iommufd/local_client.ts';
import { Sim } from '../sim/sim.ts';
import { LocalVfioClient } from '../vfio/local_client.ts';
import type { VtdDescription } from './description.ts';
import { Machine } from './machine.ts';
import { MachineError } from './machine_error.ts';
import { vtdCapabilities, vtdCapabilityFields } from './vtd_capabilities.ts';

const MEMORY = 0x1000_0000n;
const IOVA = 0x10_0000n;
const PAGE = 0x1000;
const MAP_FLAGS = 7;

const described = (more: Partial<VtdDescription> = {}): VtdDescription => ({
  name: 'dmar0',
  driver: 'intel-vtd',
  devices: [{ name: 'd', model: 'edu', address: '00:02.0' }],
  ...more,
});

/** A client's device reads what is mapped for it, and nothing once that is unmapped; or the errno that bind or attach gives. */
function readsWhatIsMapped(description: VtdDescription): string {
  const sim = new Sim({ checkLocks: true });
  const machine = new Machine({
    sim,
    description: { name: 'm', summary: '', iommus: [description] },
  });
  const client = new LocalClient(machine.iommufd);
  client.process.mm.map(MEMORY, PAGE);
  client.process.mm.copyOut(MEMORY, Uint8Array.of(1, 2, 3, 4));
  const [fn] = machine.pciDevices;
  const cdev = machine.vfio.cdev('vfio0');
  if (!cdev || !fn) throw new Error('no device');
  const device = new LocalVfioClient(cdev, client.process);
  try {
    device.call('VFIO_DEVICE_BIND_IOMMUFD', { iommufd: client.fd });
    const { out_ioas_id: ioas_id } = client.call('IOMMU_IOAS_ALLOC', {});
    device.call('VFIO_DEVICE_ATTACH_IOMMUFD_PT', { pt_id: ioas_id });
    device.set(vfio.VFIO_PCI_CONFIG_REGION_INDEX, 4, 6n, 2);
    const range = { ioas_id, iova: IOVA, length: BigInt(PAGE) };
    client.call('IOMMU_IOAS_MAP', { ...range, flags: MAP_FLAGS, user_va: MEMORY });
    const into = new Uint8Array(4);
    expect(fn.dma.read(IOVA, into)).toBeUndefined();
    expect([...into]).toEqual([1, 2, 3, 4]);
    client.call('IOMMU_IOAS_UNMAP', range);
    expect(fn.dma.read(IOVA, into)).toBeDefined();
    return 'works';
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === undefined) throw error;
    return code;
  } finally {
    device.close();
    sim.assertNothingHeld();
    expect(machine.iommufd.core.warnings).toEqual([]);
  }
}

describe('the capabilities of a VT-d unit', () => {
  it('are those of its mode, then the registers that are given, then single fields', () => {
    const scalable = vtdCapabilities(described());
    const legacy = vtdCapabilities(described({ mode: 'legacy' }));
    expect([scalable.isScalable, legacy.isScalable]).toEqual([true, false]);
    const given = described({ mode: 'legacy', cap: scalable.cap, ecap: scalable.ecap });
    expect(vtdCapabilities(given)).toEqual(scalable);
    const capabilities = { NEST: 0, MGAW: 38 };
    const without = vtdCapabilities({ ...given, capabilities, haw: 46 });
    expect(without).toMatchObject({ hasNesting: false, mgaw: 39, haw: 46, isScalable: true });
    expect(scalable).toMatchObject({ hasNesting: true, mgaw: 57, haw: 52 });
  });

  it.each([
    [{ capabilities: { FOO: 1 } }, 'dmar0: there is no capability FOO'],
    [{ capabilities: { NEST: 2 } }, 'dmar0: NEST has 1 bits, and 2 does not fit'],
    [{ capabilities: { IRO: 0 } }, 'registers at 0x0 (IRO)'],
    [{ capabilities: { FRO: 0x50, IRO: 0x50 } }, 'registers at 0x500 (IRO) and from 0x500'],
    [{ capabilities: { QI: 0 } }, 'dmar0 is refused by its driver (ENODEV)'],
  ])('%j: the machine says why it can not be', (more, why) => {
    const description = { name: 'm', summary: '', iommus: [described(more)] };
    expect(() => new Machine({ description })).toThrow(MachineError);
    expect(() => new Machine({ description })).toThrow(why);
  });

  // As Linux printed them on machines of people who asked for help in public.
  it.each([
    [0xc0000020e60262n, 0xf0101an, 'an old one, 3 levels, tables that are not snooped', 'works'],
    [0xd2008c40660462n, 0xf050dan, 'desktop, 39 bits, no page-selective invalidation', 'works'],
    [0x1c0000c40660462n, 0x19e2ff0505en, 'a graphics unit', 'works'],
    [0xd2078c106f0466n, 0xf020dfn, 'a server', 'works'],
    [0x8ed008c40780466n, 0x3ef9ea6f050dfn, 'a newer server, scalable mode', 'works'],
  ])('cap %i, ecap %i: %s', (cap, ecap, _what, result) => {
    expect(readsWhatIsMapped(described({ cap, ecap }))).toBe(result);
  });

  it('can be any: the machine works, or says that it can not be', () => {
    const random = new Prng(7);
    // Places of registers, and what no unit is without.
    const kept = new Set(['IRO', 'FRO', 'NFR', 'QI']);
    const names = [...vtdCapabilityFields].filter(([name]) => !kept.has(name));
    const results = new Map<string, number>();
    for (let i = 0; i < 400; i++) {
      const capabilities: Record<string, number> = {};
      for (const [name, width] of names)
        if (random.below(4) === 0) capabilities[name] = random.below(2 ** width);
      const mode = random.below(2) === 0 ? 'legacy' : 'scalable';
      let result: string;
      try {
        result = readsWhatIsMapped(described({ mode, capabilities }));
      } catch (error) {
        if (!(error instanceof MachineError))
          throw new Error(`${mode} ${JSON.stringify(capabilities)}`, { cause: error });
        result = 'can not be';
      }
      results.set(result, (results.get(result) ?? 0) + 1);
    }
    expect([...results.keys()].toSorted()).toEqual(['can not be', 'works']);
    expect(results.get('works')).toBeGreaterThan(200);
  });
});
