// SPDX-License-Identifier: Apache-2.0
/** A device behind VT-d through the calls of a client: what user space sees of the driver. */
import { beforeEach, describe, expect, it } from 'vitest';
import {
  iommu_hw_info_vtd,
  iommu_hwpt_vtd_s1,
  iommu_hwpt_vtd_s1_invalidate,
} from '../../abi/iommufd.ts';
import type { ErrnoError } from '../../base/errno.ts';
import { attachDevice, replaceDevice } from '../../iommufd/change_pt.ts';
import { IommufdDevice } from '../../iommufd/device.ts';
import { Iommufd } from '../../iommufd/iommufd.ts';
import { LocalClient } from '../../iommufd/local_client.ts';
import { Device } from '../../iommu/device.ts';
import type { ClientMemory } from '../../memory/client_memory.ts';
import { CLIENT_FIRST_FRAME } from '../../memory/frame.ts';
import { Sim } from '../../sim/sim.ts';
import { CachingVtd } from './caching_vtd.ts';
import { FakeRig } from './fake_rig.ts';
import { CAP_ALL, ECAP_SCALABLE } from './fake_vtd.ts';

const SID = 0x0318;
const [NEST_PARENT, DIRTY] = [1, 2];
const VTD_S1 = 1;
const PAGE = 0x1000n;
/** Where the client has what it sends, and its guest's memory of 16 pages. */
const BUFFER = 0x20_0000n;
const MEMORY = 0x10_0000n;
const GUEST_BASE = 0x4000_0000n;
const FLAGS = 0x7; // fixed, readable, writeable

/** Reads the pages of clients too, as hardware does. */
class ClientVtd extends CachingVtd {
  clients: ClientMemory | undefined = undefined;

  override words(address: bigint, count: number): number[] {
    const frame = Number(address / 2048n);
    if (frame < CLIENT_FIRST_FRAME || !this.clients) return super.words(address, count);
    const bytes = new Uint8Array(count * 4);
    this.clients.read(frame, Number(address % 2048n), bytes);
    return [...new Uint32Array(bytes.buffer)];
  }
}

function code(body: () => unknown): string {
  try {
    body();
    return 'OK';
  } catch (error) {
    return (error as ErrnoError).code;
  }
}

class World {
  readonly iommufd = new Iommufd({ sim: new Sim({ checkLocks: true }) });
  readonly rig: FakeRig;
  readonly vtd: ClientVtd;
  readonly client = new LocalClient(this.iommufd);
  readonly idev: IommufdDevice;
  readonly ioas: number;

  constructor() {
    this.rig = new FakeRig({}, ClientVtd, this.iommufd.core);
    this.vtd = this.rig.vtd as ClientVtd;
    this.vtd.clients = this.iommufd.memory;
    this.client.process.mm.map(BUFFER, 0x1000);
    this.client.process.mm.map(MEMORY, 0x10000);
    const device = new Device('edu0');
    const rc = this.rig.driver.addDevice(device, this.rig.unit, { sourceId: SID });
    if (rc !== 0) throw new Error(`refused: ${rc}`);
    this.idev = IommufdDevice.claim(this.client.file.context, device);
    this.ioas = this.client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
  }

  map(iova: bigint, from: bigint, length: bigint): void {
    this.client.call('IOMMU_IOAS_MAP', {
      ioas_id: this.ioas,
      user_va: from,
      iova,
      length,
      flags: FLAGS,
    });
  }

  hwpt(
    pt_id: number,
    more: { flags?: number; data_type?: number; data_len?: number } = {},
  ): number {
    const request = { dev_id: this.idev.id, pt_id, data_uptr: BUFFER, ...more };
    return this.client.call('IOMMU_HWPT_ALLOC', request).out_hwpt_id;
  }

  nested(parent: number, pgtbl_addr: bigint): number {
    const bytes = new Uint8Array(iommu_hwpt_vtd_s1.size);
    const cmd = iommu_hwpt_vtd_s1.on(new DataView(bytes.buffer));
    cmd.pgtbl_addr = pgtbl_addr;
    cmd.addr_width = 48;
    this.client.process.mm.copyOut(BUFFER, bytes);
    return this.hwpt(parent, { data_type: VTD_S1, data_len: bytes.length });
  }

  invalidate(hwpt_id: number, requests: readonly { addr: bigint; npages: bigint }[]): number {
    const layout = iommu_hwpt_vtd_s1_invalidate;
    const bytes = new Uint8Array(layout.size * requests.length);
    for (const [i, { addr, npages }] of requests.entries()) {
      const entry = layout.on(new DataView(bytes.buffer, i * layout.size));
      entry.addr = addr;
      entry.npages = npages;
    }
    this.client.process.mm.copyOut(BUFFER, bytes);
    const { reply } = this.client.tryCall('IOMMU_HWPT_INVALIDATE', {
      hwpt_id,
      data_uptr: BUFFER,
      data_type: 0,
      entry_len: layout.size,
      entry_num: requests.length,
    });
    return reply.entry_num;
  }

  /** Writes an item of a table in the guest's memory. */
  item(page: number, index: number, value: bigint): void {
    const bytes = new Uint8Array(BigUint64Array.of(value).buffer);
    this.client.process.mm.copyOut(MEMORY + BigInt(page) * PAGE + BigInt(index) * 8n, bytes);
  }

  /** The page of the client's memory that the device finds, or why it does not. */
  find(address: bigint, isWrite = false): number | string {
    const found = this.vtd.access(SID, address, isWrite);
    if (typeof found === 'string') return found;
    const bytes = new Uint8Array(4);
    this.iommufd.memory.read(Number(found.frame / 2048n), 0, bytes);
    return bytes[0] ?? 0;
  }
}

let world: World;

beforeEach(() => {
  world = new World();
  // Each page of the guest's memory begins with its number.
  for (let page = 0; page < 16; page++) world.item(page, 0, BigInt(page));
});

describe('GET_HW_INFO', () => {
  it('tells the registers', () => {
    const reply = world.client.call('IOMMU_GET_HW_INFO', {
      dev_id: world.idev.id,
      data_len: iommu_hw_info_vtd.size,
      data_uptr: BUFFER,
    });
    expect([reply.data_len, reply.u.out_data_type]).toEqual([24, 1]);
    expect(reply.out_capabilities & 1n).toBe(1n); // dirty tracking
    const bytes = new Uint8Array(24);
    world.client.process.mm.copyIn(BUFFER, bytes);
    const info = iommu_hw_info_vtd.on(new DataView(bytes.buffer));
    expect([info.flags, info.cap_reg, info.ecap_reg]).toEqual([1, CAP_ALL, ECAP_SCALABLE]);
  });
});

describe('an address space behind VT-d', () => {
  it('is what the device sees, and no longer once unmapped', () => {
    attachDevice(world.idev, 0, world.ioas);
    world.map(GUEST_BASE, MEMORY, 0x10000n);
    expect(world.find(GUEST_BASE + 3n * PAGE)).toBe(3);
    expect(world.find(GUEST_BASE + 3n * PAGE, true)).toBe(3);
    world.client.call('IOMMU_IOAS_UNMAP', {
      ioas_id: world.ioas,
      iova: GUEST_BASE,
      length: 0x10000n,
    });
    expect(world.find(GUEST_BASE + 3n * PAGE)).toBe('nothing in the first stage');
  });

  it('leaves the window of interrupt messages free', () => {
    attachDevice(world.idev, 0, world.ioas);
    expect(code(() => world.map(0xfee0_0000n, MEMORY, PAGE))).toBe('EINVAL');
  });

  it('has tables of the kinds that the hardware has, and no others', () => {
    expect(world.hwpt(world.ioas)).toBeGreaterThan(0);
    expect(world.hwpt(world.ioas, { flags: NEST_PARENT | DIRTY })).toBeGreaterThan(0);
    const plain = world.hwpt(world.ioas);
    expect(code(() => world.nested(plain, GUEST_BASE))).toBe('EINVAL');
    const parent = world.hwpt(world.ioas, { flags: NEST_PARENT });
    expect(code(() => world.hwpt(parent, { data_type: 2, data_len: 24 }))).toBe('EOPNOTSUPP');
    expect(code(() => world.hwpt(parent, { data_type: 1, data_len: 23 }))).toBe('EINVAL');
  });

  it('that is a nesting parent refuses what is mapped for reading alone', () => {
    world.hwpt(world.ioas, { flags: NEST_PARENT });
    const request = { ioas_id: world.ioas, user_va: MEMORY, iova: GUEST_BASE, length: PAGE };
    expect(code(() => world.client.call('IOMMU_IOAS_MAP', { ...request, flags: 5 }))).toBe(
      'EINVAL',
    );
    expect(code(() => world.client.call('IOMMU_IOAS_MAP', { ...request, flags: 7 }))).toBe('OK');
  });
});

describe('a table of the guest', () => {
  const IOVA = 0x12_3456_7000n;
  const TABLE = 7n;

  /** Tables at pages 0 to 3, a leaf to page 9. */
  function guest(): { parent: number; nested: number; leaf: number } {
    world.map(GUEST_BASE, MEMORY, 0x10000n);
    const parent = world.hwpt(world.ioas, { flags: NEST_PARENT });
    const index = (level: number): number => Number((IOVA >> BigInt(12 + 9 * level)) & 511n);
    for (let level = 3; level > 0; level--) {
      world.item(3 - level, index(level), GUEST_BASE + BigInt(4 - level) * PAGE + TABLE);
    }
    world.item(3, index(0), GUEST_BASE + 9n * PAGE + TABLE);
    const nested = world.nested(parent, GUEST_BASE);
    return { parent, nested, leaf: index(0) };
  }

  it('translates on top of the parent; a change is seen after its invalidation', () => {
    const { nested, leaf } = guest();
    attachDevice(world.idev, 0, nested);
    expect(world.find(IOVA)).toBe(9);
    world.item(3, leaf, GUEST_BASE + 10n * PAGE + TABLE);
    expect(world.find(IOVA)).toBe(9); // cached
    expect(world.invalidate(nested, [{ addr: IOVA, npages: 1n }])).toBe(1);
    expect(world.find(IOVA)).toBe(10);
  });

  it('that is invalidated in part tells how much', () => {
    const { nested } = guest();
    attachDevice(world.idev, 0, nested);
    const bad = { addr: IOVA + 1n, npages: 1n };
    const good = { addr: IOVA, npages: 1n };
    expect(world.invalidate(nested, [good, good, bad, good])).toBe(2);
  });

  it('ends where the memory below it is unmapped', () => {
    const { nested } = guest();
    attachDevice(world.idev, 0, nested);
    expect(world.find(IOVA)).toBe(9);
    const range = { ioas_id: world.ioas, iova: GUEST_BASE, length: 0x10000n };
    world.client.call('IOMMU_IOAS_UNMAP', range);
    expect(world.find(IOVA)).toBe('nothing in the second stage');
  });

  it('is replaced by its parent and back', () => {
    const { parent, nested } = guest();
    attachDevice(world.idev, 0, nested);
    replaceDevice(world.idev, 0, parent);
    expect(world.find(GUEST_BASE + 5n * PAGE)).toBe(5);
    expect(world.find(IOVA)).toBe('nothing in the second stage');
    replaceDevice(world.idev, 0, nested);
    expect(world.find(IOVA)).toBe(9);
  });
});
