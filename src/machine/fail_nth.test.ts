// SPDX-License-Identifier: Apache-2.0
/** E2: the n-th allocation or pin fails, for every n, and nothing leaks and nothing has changed. */
import { describe, expect, it } from 'vitest';
import * as t from '../abi/iommufd_test.ts';
import { Machine } from './machine.ts';
import { type Faults, sweepFaults } from '../sim/faults.ts';
import { Sim } from '../sim/sim.ts';
import { LocalClient } from '../iommufd/local_client.ts';

const MEMORY = 0x10_0000n;
const PAGE = 0x1000n;
const IOVA = 1n << 24n;

type Test = { client: LocalClient; machine: Machine; ioas: number };

function setUp(faults: Faults, nth: number): Test {
  faults.clear();
  const machine = new Machine({ sim: new Sim({ faults, checkLocks: true }) });
  const client = new LocalClient(machine.iommufd);
  client.process.mm.map(MEMORY, 0x10000);
  const ioas = client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
  faults.plan({ nth });
  return { client, machine, ioas };
}

const map = ({ client, ioas }: Test, iova: bigint, pages: bigint) =>
  client.call('IOMMU_IOAS_MAP', {
    flags: 7,
    ioas_id: ioas,
    user_va: MEMORY,
    length: pages * PAGE,
    iova,
  });
const test = ({ client }: Test, op: number, id: number, u = {}) =>
  client.call('IOMMU_TEST_CMD', { op, id, u });

/** What can be observed of a machine: ids, maps, pins, charges. */
function stateOf({ client, machine }: Test): unknown {
  const objects = [...client.file.context.objects].map((object) => ({
    id: object.id,
    type: object.type,
    users: object.users,
    ...('table' in object && object.type === 'IOAS' ? { ioas: ioasState(object as never) } : {}),
  }));
  return {
    objects,
    pins: machine.memory.pinCount,
    pinned: client.process.mm.locked.pinnedPages,
    groups: [...machine.iommufd.core.groups.entries()].length,
  };
}

function ioasState(ioas: { table: import('../iommufd/io_pagetable.ts').IoPagetable }): unknown {
  const { table } = ioas;
  const intervals = (tree: Iterable<{ start: bigint; last: bigint }>) =>
    [...tree].map(({ start, last }) => `${start}-${last}`);
  return {
    areas: intervals(table.areas),
    reserved: intervals(table.reserved),
    allowed: intervals(table.allowed),
    domains: table.domains.length,
    accesses: table.accesses.size,
    alignment: table.alignment,
  };
}

const scenarios: Record<string, readonly ((test: Test) => unknown)[]> = {
  'maps, a copy and unmaps': [
    (it) => map(it, IOVA, 4n),
    ({ client, ioas }) =>
      client.call('IOMMU_IOAS_COPY', {
        flags: 7,
        dst_ioas_id: ioas,
        src_ioas_id: ioas,
        length: 2n * PAGE,
        src_iova: IOVA + PAGE,
        dst_iova: IOVA + 0x10_0000n,
      }),
    ({ client, ioas }) =>
      client.call('IOMMU_IOAS_UNMAP', { ioas_id: ioas, iova: IOVA, length: 4n * PAGE }),
  ],
  'mock devices on a filled address space': [
    (it) => map(it, IOVA, 4n),
    (it) => test(it, t.IOMMU_TEST_OP_MOCK_DOMAIN, it.ioas),
    (it) => map(it, IOVA + 0x10_0000n, 8n),
    (it) => test(it, t.IOMMU_TEST_OP_MOCK_DOMAIN, it.ioas),
  ],
  'a replace and a table made by hand': [
    (it) => map(it, IOVA, 4n),
    (it) => test(it, t.IOMMU_TEST_OP_MOCK_DOMAIN, it.ioas),
    ({ client }) => client.call('IOMMU_IOAS_ALLOC', {}),
    (it) => test(it, t.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, 2, { mock_domain_replace: { pt_id: 5 } }),
    ({ client }) => client.call('IOMMU_HWPT_ALLOC', { dev_id: 3, pt_id: 1 }),
    (it) => test(it, t.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, 2, { mock_domain_replace: { pt_id: 4 } }),
  ],
  'accesses that pin': [
    (it) => map(it, IOVA, 8n),
    (it) => test(it, t.IOMMU_TEST_OP_CREATE_ACCESS, it.ioas, { create_access: { flags: 1 } }),
    (it) =>
      test(it, t.IOMMU_TEST_OP_ACCESS_PAGES, 4, {
        access_pages: { iova: IOVA, length: 3n * PAGE },
      }),
    (it) => test(it, t.IOMMU_TEST_OP_MOCK_DOMAIN, it.ioas),
    (it) =>
      test(it, t.IOMMU_TEST_OP_ACCESS_PAGES, 4, {
        access_pages: { iova: IOVA, length: 8n * PAGE },
      }),
  ],
};

describe.each(Object.entries(scenarios))('%s', (_name, steps) => {
  it('each fails without a trace when the n-th allocation or pin does (E2)', () => {
    const failed = sweepFaults((faults, nth) => {
      const it = setUp(faults, nth);
      for (const step of steps) {
        const before = stateOf(it);
        try {
          step(it);
        } catch {
          expect(faults.injected, 'a step failed though nothing was injected').toBeDefined();
          expect(stateOf(it)).toEqual(before);
          step(it); // and works the second time
        }
      }
      expect(it.machine.iommufd.core.warnings).toEqual([]);
      it.client.process.exit();
      expect(it.machine.memory.pinCount).toBe(0);
      expect(it.machine.iommufd.contexts).toEqual([]);
      expect(it.client.process.mm.locked.pinnedPages).toBe(0);
    });
    expect(failed).toBeGreaterThan(2);
  });
});
