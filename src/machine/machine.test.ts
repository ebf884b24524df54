// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { LocalClient } from '../iommufd/local_client.ts';
import { Sim } from '../sim/sim.ts';
import { Machine } from './machine.ts';
import {
  IOMMU_TEST_OP_ACCESS_PAGES,
  IOMMU_TEST_OP_CREATE_ACCESS,
  IOMMU_TEST_OP_MD_CHECK_MAP,
  IOMMU_TEST_OP_MD_CHECK_REFS,
  IOMMU_TEST_OP_MOCK_DOMAIN,
} from '../abi/iommufd_test.ts';

const MEMORY = 0x10_0000n;
const PAGE = 0x1000n;
const IOVA = 1n << 24n;

function setUp() {
  const machine = new Machine({ sim: new Sim({ checkLocks: true }) });
  const client = new LocalClient(machine.iommufd);
  client.process.mm.map(MEMORY, 0x10000);
  const ioas = client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
  const mock = () =>
    client.call('IOMMU_TEST_CMD', { op: IOMMU_TEST_OP_MOCK_DOMAIN, id: ioas }).u.mock_domain;
  const map = (iova: bigint, length: bigint) =>
    client.call('IOMMU_IOAS_MAP', { flags: 7, ioas_id: ioas, user_va: MEMORY, length, iova });
  return { machine, client, ioas, mock, map };
}

describe('a machine with the test IOMMU', () => {
  it('hands out ids for the mock device, its binding and its table in that order', () => {
    const { mock } = setUp();
    const { out_stdev_id, out_idev_id, out_hwpt_id } = mock();
    expect([out_stdev_id, out_idev_id, out_hwpt_id]).toEqual([2, 3, 4]);
  });

  it('translates to the pages of the client, before and after the map is made', () => {
    const { client, mock, map } = setUp();
    map(IOVA, 4n * PAGE);
    const { out_hwpt_id } = mock();
    map(IOVA + 0x10_0000n, 4n * PAGE);
    for (const iova of [IOVA, IOVA + 0x10_0000n]) {
      const check_map = { iova, length: 4n * PAGE, uptr: MEMORY };
      const { result } = client.tryCall('IOMMU_TEST_CMD', {
        op: IOMMU_TEST_OP_MD_CHECK_MAP,
        id: out_hwpt_id,
        u: { check_map },
      });
      expect(result).toMatchObject({ value: 0, why: '' });
    }
  });

  it('pins a page once for a domain and an access together', () => {
    const { client, ioas, mock, map } = setUp();
    const refs = (count: number) => {
      const { result } = client.tryCall('IOMMU_TEST_CMD', {
        op: IOMMU_TEST_OP_MD_CHECK_REFS,
        u: { check_refs: { uptr: MEMORY, length: 4n * PAGE, refs: count } },
      });
      expect(result).toMatchObject({ value: 0, why: '' });
    };
    map(IOVA, 4n * PAGE);
    refs(0);
    const access = client.call('IOMMU_TEST_CMD', {
      op: IOMMU_TEST_OP_CREATE_ACCESS,
      id: ioas,
      u: { create_access: { flags: 1 } },
    }).u.create_access.out_access_fd;
    client.call('IOMMU_TEST_CMD', {
      op: IOMMU_TEST_OP_ACCESS_PAGES,
      id: access,
      u: { access_pages: { iova: IOVA, length: 4n * PAGE, uptr: MEMORY } },
    });
    refs(1);
    const { out_stdev_id } = mock();
    refs(1);
    client.call('IOMMU_DESTROY', { id: out_stdev_id });
    refs(1);
    client.process.close(access);
    refs(0);
  });

  it('leaves nothing behind at the last close', () => {
    const { machine, client, mock, map } = setUp();
    map(IOVA, 4n * PAGE);
    mock();
    mock();
    client.close();
    expect(machine.memory.pinCount).toBe(0);
    expect(machine.iommufd.contexts).toHaveLength(0);
  });
});
