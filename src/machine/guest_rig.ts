// SPDX-License-Identifier: Apache-2.0
/** For tests: a client who has a guest, whose table lies in 64 pages of memory on a second stage, and the device that goes through both. */
import {
  iommu_hwpt_vtd_s1,
  iommu_hwpt_vtd_s1_invalidate,
  IOMMU_HWPT_DATA_VTD_S1,
  IOMMU_HWPT_INVALIDATE_DATA_VTD_S1,
  IOMMU_VTD_INV_FLAGS_LEAF,
} from '../abi/iommufd.ts';
import { IommufdDevice } from '../iommufd/device.ts';
import { LocalClient } from '../iommufd/local_client.ts';
import { NO_PASID } from '../iommu/device.ts';
import { RequestMode } from '../pci/translator.ts';
import { Sim } from '../sim/sim.ts';
import type { MachineDescription } from './description.ts';
import { Machine } from './machine.ts';
import { presets } from './presets.ts';
import type { StaleTranslation } from './stale_translations.ts';

export const PAGE = 0x1000n;
/** Where the guest's memory is for the guest, how many pages it has, and which are tables. The others are data. */
export const GUEST = 0x10_0000n;
export const PAGES = 64;
export const [PML4, PDPT, PD, PT, OTHER_PT, OTHER_PML4] = [0, 1, 2, 3, 4, 5];
/** What the guest's tables translate: 512 pages from here on, by the entries of PT. */
export const ADDRESS = 0x20_0000n;
/** Entries: present, user; and what may be there. */
export const [WRITABLE, LARGE] = [2n, 0x80n];
const PRESENT_USER = 5n;
/** The client's memory. */
export const MEMORY = 0x4000_0000n;
const SCRATCH = 0x5000_0000n;
const MAP_FLAGS = 7;
export const [NEST_PARENT, DIRTY, FOR_PASIDS] = [1, 2, 8];
/** Of the device: src/pci/endpoints/iommu_test/README.md. */
const PASID_PRESENT = 0x8000_0000;
export const [READ, WRITE, CACHED_READ, CACHED_WRITE, TRANSLATE, FORGET] = [1, 2, 3, 4, 5, 12];

/** What a guest asks to forget: pages from an address on; all where there is none. */
export interface Asked {
  readonly address?: bigint;
  readonly pages?: bigint;
  readonly leavesOnly?: boolean;
}

export class GuestRig {
  readonly machine: Machine;
  readonly client: LocalClient;
  readonly bound: IommufdDevice;
  readonly ioas: number;
  /** 0: what is mapped shows the first memory of the client's; each move of a page takes another. */
  #moves = 0;
  readonly #moved = new Map<number, bigint>();

  constructor(
    machine: string | MachineDescription,
    report: (found: StaleTranslation) => void,
    sim = new Sim(),
  ) {
    const description =
      typeof machine === 'string' ? presets.find(({ name }) => name === machine) : machine;
    if (!description) throw new Error(`no such preset`);
    this.machine = new Machine({ description, onStale: report, sim });
    this.client = new LocalClient(this.machine.iommufd);
    const { mm } = this.client.process;
    mm.map(MEMORY, 256 * Number(PAGE));
    mm.map(SCRATCH, 4 * Number(PAGE));
    this.fn.config.write(4, 2, 6);
    this.bound = IommufdDevice.claim(this.client.file.context, this.fn.device);
    this.ioas = this.client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
    for (let page = 0; page < PAGES; page++) this.mapPage(page);
    for (const top of [PML4, OTHER_PML4]) this.set(top, 0, PDPT);
    this.set(PDPT, 0, PD);
    this.set(PD, 1, PT);
  }

  get fn() {
    const [fn] = this.machine.pciDevices;
    if (!fn) throw new Error('no function');
    return fn;
  }

  /** The second stage has a page of the guest's. */
  mapPage(page: number): void {
    this.client.call('IOMMU_IOAS_MAP', {
      ...{ flags: MAP_FLAGS, ioas_id: this.ioas, iova: GUEST + BigInt(page) * PAGE, length: PAGE },
      user_va: this.#placeOf(page),
    });
  }

  unmapPage(page: number): void {
    const iova = GUEST + BigInt(page) * PAGE;
    this.client.call('IOMMU_IOAS_UNMAP', { ioas_id: this.ioas, iova, length: PAGE });
  }

  /** The page is elsewhere in the client's memory from now on, with what is in it, once it is mapped again. */
  movePage(page: number): void {
    const bytes = new Uint8Array(Number(PAGE));
    this.client.process.mm.copyIn(this.#placeOf(page), bytes);
    this.#moved.set(page, MEMORY + BigInt(PAGES + (this.#moves++ % 128)) * PAGE);
    this.client.process.mm.copyOut(this.#placeOf(page), bytes);
  }

  /** An entry of a table leads to a page of the guest's; undefined: nowhere. */
  set(table: number, index: number, page: number | undefined, bits = WRITABLE): void {
    const to = page === undefined ? 0n : GUEST + BigInt(page) * PAGE + PRESENT_USER + bits;
    const bytes = new Uint8Array(BigUint64Array.of(to).buffer);
    this.client.process.mm.copyOut(this.#placeOf(table) + BigInt(index * 8), bytes);
  }

  /** IOMMU_HWPT_ALLOC. */
  hwpt(pt_id: number, more: { flags?: number; data_type?: number; data_len?: number } = {}) {
    return this.client.call('IOMMU_HWPT_ALLOC', {
      ...{ dev_id: this.bound.id, pt_id, ...more },
      data_uptr: more.data_len ? SCRATCH : 0n,
    }).out_hwpt_id;
  }

  /** A guest's table on a parent. */
  nested(parent: number, flags = 0, top = PML4): number {
    const bytes = new Uint8Array(iommu_hwpt_vtd_s1.size);
    const said = iommu_hwpt_vtd_s1.on(new DataView(bytes.buffer));
    said.pgtbl_addr = GUEST + BigInt(top) * PAGE;
    said.addr_width = 48;
    this.client.process.mm.copyOut(SCRATCH, bytes);
    return this.hwpt(parent, { flags, data_type: IOMMU_HWPT_DATA_VTD_S1, data_len: bytes.length });
  }

  /** IOMMU_HWPT_INVALIDATE; one call for all. */
  invalidate(hwpt_id: number, ...asked: readonly Asked[]): void {
    const { size } = iommu_hwpt_vtd_s1_invalidate;
    asked.forEach(({ address, pages = 1n, leavesOnly = false }, index) => {
      const bytes = new Uint8Array(size);
      const entry = iommu_hwpt_vtd_s1_invalidate.on(new DataView(bytes.buffer));
      entry.addr = address ?? 0n;
      entry.npages = address === undefined ? 2n ** 64n - 1n : pages;
      entry.flags = leavesOnly ? IOMMU_VTD_INV_FLAGS_LEAF : 0;
      this.client.process.mm.copyOut(SCRATCH + BigInt(index * size), bytes);
    });
    this.client.call('IOMMU_HWPT_INVALIDATE', {
      ...{ hwpt_id, data_uptr: SCRATCH, data_type: IOMMU_HWPT_INVALIDATE_DATA_VTD_S1 },
      ...{ entry_len: size, entry_num: asked.length },
    });
  }

  /** The device reads and writes at an address: by way of the IOMMU, and where it keeps translations, from those. */
  touch(address: bigint, pasid: number = NO_PASID): void {
    const { fn, machine } = this;
    const mode = pasid === NO_PASID ? 0 : RequestMode.PASID;
    fn.dma.read(address, new Uint8Array(8), pasid, mode);
    fn.dma.write(address, new Uint8Array(8), pasid, mode);
    if (!fn.ats) return;
    for (const command of [CACHED_READ, CACHED_WRITE]) {
      this.start(command, address, pasid);
      machine.iommufd.sim.settle();
    }
  }

  /** What the device does when it is to forget; bits as in its README. */
  answers(mode: number): void {
    this.fn.bars[0]?.write(0x1024, 4, BigInt(mode));
  }

  /** A command of a device that has them begins in a slot, and goes on when there is time; nothing where the slot is busy. */
  start(command: number, address: bigint, pasid: number = NO_PASID, slot = 0, fn = this.fn): void {
    const set = (at: number, value: number): void =>
      fn.bars[0]?.write(0x1000 + at, 4, BigInt(value >>> 0));
    set(0x08, Number(address));
    set(0x10, 8);
    set(0x18, pasid === NO_PASID ? 0 : PASID_PRESENT + pasid);
    set(0x28, slot);
    set(0x30, command);
  }

  #placeOf(page: number): bigint {
    return this.#moved.get(page) ?? MEMORY + BigInt(page) * PAGE;
  }
}
