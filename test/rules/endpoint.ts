// SPDX-License-Identifier: Apache-2.0
import type { LocalClient } from '../../src/iommufd/local_client.ts';
import type { PciFunction } from '../../src/pci/function.ts';
import type { VfioCdev } from '../../src/vfio/cdev.ts';
import { LocalVfioClient } from '../../src/vfio/local_client.ts';
import { type Answer, type Asking, IOVA, PAGE, type RuleDevice } from './rule_device.ts';

/* Registers, commands and states of the endpoint `iommu_test`, as its README has them. */
const BASE = 0x1000;
const [ADDRESS, PASID, GROUP, PAGE_FLAGS, SLOT, COMMAND] = [0x08, 0x18, 0x1c, 0x20, 0x28, 0x30];
const [RESPONSES, STATES, PRIVATE_DATA, ANSWERED_DATA] = [0x50, 0x80, 0xc0, 0xd0];
const PAGE_REQUEST = 6;
const [READ, LAST, HAS_PRIVATE_DATA] = [1, 4, 8];
/** For requests that wait for nothing. */
const OTHER_SLOT = 15;
const ANSWERS: Readonly<Record<number, Answer>> = {
  2: 'none',
  3: 'SUCCESS',
  6: 'INVALID',
  7: 'FAILURE',
  9: 'off',
};
const MEMORY_AND_MASTER = 6;

/** A PCI function that a client has through VFIO. */
export class Endpoint implements RuleDevice {
  readonly id: number;
  readonly vfio: LocalVfioClient;
  readonly #fn: PciFunction;

  constructor(fn: PciFunction, cdev: VfioCdev, client: LocalClient) {
    this.#fn = fn;
    this.vfio = new LocalVfioClient(cdev, client.process);
    this.id = this.vfio.call('VFIO_DEVICE_BIND_IOMMUFD', { iommufd: client.fd }).out_devid;
  }

  get core() {
    return this.#fn.device;
  }

  attach(pt_id: number, pasid = 0): number {
    return this.vfio.call('VFIO_DEVICE_ATTACH_IOMMUFD_PT', { pt_id, ...at(pasid) }).pt_id;
  }

  detach(pasid = 0): void {
    this.vfio.call('VFIO_DEVICE_DETACH_IOMMUFD_PT', at(pasid));
  }

  close(): void {
    this.vfio.close();
  }

  read(pasid = 0, iova = IOVA): number | undefined {
    const [fn, into] = [this.#ready(), new Uint8Array(1)];
    return fn.dma.read(iova, into, pasid) ? undefined : into[0];
  }

  write(byte: number, pasid = 0, iova = IOVA): boolean {
    return this.#ready().dma.write(iova, Uint8Array.of(byte), pasid) === undefined;
  }

  ask(group: number, { pasid = 0, page = 0, last = true, privateData }: Asking = {}): void {
    this.#ready();
    for (const i of [0, 1, 2, 3])
      this.#set(
        PRIVATE_DATA + 4 * i,
        Number(BigInt.asUintN(32, (privateData ?? 0n) >> BigInt(32 * i))),
      );
    const hasData = privateData === undefined ? 0 : HAS_PRIVATE_DATA;
    this.#set(ADDRESS, Number(IOVA) + page * PAGE);
    this.#set(PASID, pasid === 0 ? 0 : 0x8000_0000 + pasid);
    this.#set(GROUP, group);
    this.#set(PAGE_FLAGS, READ | (last ? LAST : 0) | hasData);
    this.#set(SLOT, last ? group : OTHER_SLOT);
    this.#set(COMMAND, PAGE_REQUEST);
  }

  answer(group: number): Answer {
    const state = this.#get(STATES + 4 * group);
    const answer = ANSWERS[state];
    if (answer) return answer;
    throw new Error(`group ${group} was not asked for: its slot is in state ${state}`);
  }

  answers(): number {
    return this.#get(RESPONSES);
  }

  answeredData(): bigint {
    const lanes = [3, 2, 1, 0].map((i) => BigInt(this.#get(ANSWERED_DATA + 4 * i)));
    return lanes.reduce((value, lane) => (value << 32n) | lane, 0n);
  }

  /** It does as it likes: not even bus mastering, which VFIO takes away, keeps it. */
  #ready(): PciFunction {
    this.#fn.config.write(4, 2, MEMORY_AND_MASTER);
    return this.#fn;
  }

  #bar() {
    const [bar] = this.#fn.bars;
    if (!bar) throw new Error('the endpoint has no registers');
    return bar;
  }

  #set(offset: number, value: number): void {
    this.#bar().write(BASE + offset, 4, BigInt(value >>> 0));
  }

  #get(offset: number): number {
    return Number(this.#bar().read(BASE + offset, 4));
  }
}

const at = (pasid: number) => ({ flags: pasid === 0 ? 0 : 1, pasid });
