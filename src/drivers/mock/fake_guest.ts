// SPDX-License-Identifier: Apache-2.0
/** For tests: a machine with one mock device, and short names for the calls of a client that serves a guest. */
import * as t from '../../abi/iommufd_test.ts';
import { Errno, type ErrnoError } from '../../base/errno.ts';
import { MockIommu } from './mock_iommu.ts';
import { Sim } from '../../sim/sim.ts';
import { Iommufd } from '../../iommufd/iommufd.ts';
import { LocalClient } from '../../iommufd/local_client.ts';

import type { DeviceFile } from '../../kernel/file.ts';
import type { Faults } from '../../sim/faults.ts';

/* The numbers of iommufd.h and iommufd_test.h, written out again. */
export const NEST_PARENT = 1;
export const SELFTEST_HWPT = 0xdead;
export const SELFTEST = 0xdeadbeef;
export const SELFTEST_EVENTS = 0xbeefbeef;
export const IOTLB = 0xbadbeef;
export const PAGE = 0x1000n;
export const BUFFER = 0x20_0000n;
export const MEMORY = 0x10_0000n;
export const NOWHERE = 0x7000_0000n;
export const IOVA = 1n << 24n;

/** A machine with one mock device in an IOAS, and a nesting parent. */
export class NestedWorld {
  readonly sim: Sim;
  readonly iommufd: Iommufd;
  readonly mock: MockIommu;
  readonly client: LocalClient;
  readonly ioas: number;
  readonly stdev: number;
  readonly idev: number;
  readonly parent: number;

  constructor(faults?: Faults) {
    this.sim = new Sim({ checkLocks: true, ...(faults ? { faults } : {}) });
    this.iommufd = new Iommufd({ sim: this.sim });
    this.mock = new MockIommu(this.iommufd.core);
    this.iommufd.testHardware = this.mock;
    this.client = new LocalClient(this.iommufd);
    this.client.process.mm.map(BUFFER, 0x10000);
    this.client.process.mm.map(MEMORY, 0x10000);
    this.ioas = this.client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
    const { stdev, idev } = this.mockDevice();
    this.stdev = stdev;
    this.idev = idev;
    this.parent = this.hwpt(this.ioas, { flags: NEST_PARENT });
  }

  mockDevice(): { stdev: number; idev: number } {
    const op = t.IOMMU_TEST_OP_MOCK_DOMAIN;
    const { u } = this.client.call('IOMMU_TEST_CMD', { op, id: this.ioas });
    const { out_stdev_id: stdev, out_idev_id: idev } = u.mock_domain;
    return { stdev, idev };
  }

  put(words: readonly number[], at = BUFFER): void {
    this.client.process.mm.copyOut(at, new Uint8Array(Uint32Array.from(words).buffer));
  }

  get(words: number, at = BUFFER): number[] {
    const bytes = new Uint8Array(words * 4);
    this.client.process.mm.copyIn(at, bytes);
    return [...new Uint32Array(bytes.buffer)];
  }

  hwpt(pt_id: number, { flags = 0, data_type = 0, data_len = 0, dev_id = this.idev } = {}): number {
    const request = { dev_id, pt_id, flags, data_type, data_len, data_uptr: BUFFER };
    return this.client.call('IOMMU_HWPT_ALLOC', request).out_hwpt_id;
  }

  nested(pt_id = this.parent, options: { flags?: number; data_len?: number } = {}): number {
    this.put([IOTLB, 0, 0, 0]);
    return this.hwpt(pt_id, { data_type: SELFTEST_HWPT, data_len: 8, ...options });
  }

  viommu(
    options: { data?: number; hwpt_id?: number; dev_id?: number; type?: number } = {},
  ): number {
    const { data, hwpt_id = this.parent, dev_id = this.idev, type = SELFTEST } = options;
    if (data !== undefined) this.put([data, 0, 0, 0, 0, 0]);
    const dataBytes = data === undefined ? 0 : 24;
    const request = { type, dev_id, hwpt_id, data_len: dataBytes, data_uptr: BUFFER };
    return this.client.call('IOMMU_VIOMMU_ALLOC', request).out_viommu_id;
  }

  vdevice(viommu_id: number, virt_id: bigint, dev_id = this.idev): number {
    return this.client.call('IOMMU_VDEVICE_ALLOC', { viommu_id, dev_id, virt_id }).out_vdevice_id;
  }

  events(viommu_id: number, veventq_depth: number): { id: number; fd: number; file: DeviceFile } {
    const request = { viommu_id, type: SELFTEST_EVENTS, veventq_depth };
    const { out_veventq_id: id, out_veventq_fd: fd } = this.client.call(
      'IOMMU_VEVENTQ_ALLOC',
      request,
    );
    const open = this.client.process.get(fd);
    if (open?.kind !== 'device') throw new Error('no queue');
    return { id, fd, file: open.file };
  }

  queue(viommu_id: number, index: number, nesting_parent_iova: bigint, length = 0x100n): number {
    const request = { viommu_id, type: SELFTEST, index, nesting_parent_iova, length };
    return this.client.call('IOMMU_HW_QUEUE_ALLOC', request).out_hw_queue_id;
  }

  map(iova: bigint, length = PAGE): void {
    const request = { flags: 7, ioas_id: this.ioas, user_va: MEMORY, length, iova };
    this.client.call('IOMMU_IOAS_MAP', request);
  }

  unmap(iova: bigint, length = PAGE): string {
    return code(() => this.client.call('IOMMU_IOAS_UNMAP', { ioas_id: this.ioas, iova, length }));
  }

  replace(pt_id: number): void {
    const op = t.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE;
    this.client.call('IOMMU_TEST_CMD', {
      op,
      id: this.stdev,
      u: { mock_domain_replace: { pt_id } },
    });
  }

  trigger(dev_id = this.idev): string {
    const op = t.IOMMU_TEST_OP_TRIGGER_VEVENT;
    return code(() =>
      this.client.call('IOMMU_TEST_CMD', { op, u: { trigger_vevent: { dev_id } } }),
    );
  }

  /** Which entries of a nested table's cache hold a value. */
  iotlb(id: number, value: number): number[] {
    const op = t.IOMMU_TEST_OP_MD_CHECK_IOTLB;
    return [0, 1, 2, 3, 4].filter((entry) => {
      const u = { check_iotlb: { id: entry, iotlb: value } };
      return code(() => this.client.call('IOMMU_TEST_CMD', { op, id, u })) === 'OK';
    });
  }

  invalidate(
    hwpt_id: number,
    entries: readonly (readonly number[])[],
    fields: { data_type?: number; entry_len?: number; entry_num?: number; data_uptr?: bigint } = {},
  ): string {
    this.put(entries.flat());
    const request = {
      hwpt_id,
      data_uptr: BUFFER,
      data_type: SELFTEST,
      entry_len: (entries[0]?.length ?? 2) * 4,
      entry_num: entries.length,
      ...fields,
    };
    const { result, reply } = this.client.tryCall('IOMMU_HWPT_INVALIDATE', request);
    const name = Object.entries(Errno).find(([, value]) => value === -result.value)?.[0] ?? 'OK';
    return `${name} ${reply.entry_num}`;
  }

  destroy(id: number): string {
    return code(() => this.client.call('IOMMU_DESTROY', { id }));
  }

  /** Ends the client: what is left afterwards, in words; nothing where all is well. */
  end(): string[] {
    this.sim.assertNothingHeld();
    this.client.process.exit();
    const { core, contexts, memory } = this.iommufd;
    return [
      ...core.warnings,
      ...contexts.map(() => 'an open /dev/iommu'),
      ...(memory.segmentCount > 0 ? [`${memory.segmentCount} stretches of frames`] : []),
    ];
  }

  ids(): number[] {
    return [...this.client.file.context.objects].map(({ id }) => id);
  }
}

/** OK, or the name of the errno that was thrown. */
export function code(body: () => unknown): string {
  try {
    body();
    return 'OK';
  } catch (error) {
    return (error as ErrnoError).code;
  }
}
