// SPDX-License-Identifier: Apache-2.0
import { hi, lo, toBigint } from '../../base/u64.ts';
import { Ram } from '../../memory/ram.ts';
import { Sim } from '../../sim/sim.ts';
import { NO_PASID } from './access.ts';
import { Capabilities, type VtdDescription } from './capabilities.ts';
import type { OtherMemory } from './physical_memory.ts';
import { VtdUnit } from './vtd_unit.ts';

/**
 * For tests: a unit, and its tables built with plain writes, as the data sheet has them. Nothing of the driver or of `generic_pt`.
 */

export const SID = 0x0010;
/** R, W of a second stage; P, RW, US and A of a first one. */
export const SS_RW = 3n;
export const FS_ALL = 0x27n;

export interface Fault {
  readonly reason: number;
  readonly sid: number;
  readonly address: bigint;
  readonly isRead: boolean;
  readonly pasid: number | undefined;
}

const GCMD_TE = 0x8000_0000;
const GCMD_SRTP = 0x4000_0000;
const GCMD_QIE = 0x0400_0000;

export class Rig {
  readonly sim: Sim;
  readonly ram = new Ram();
  readonly unit: VtdUnit;
  readonly root: number;
  context = 0;
  directory = 0;
  pasids = 0;
  readonly queue: number;
  readonly status: number;
  #tail = 0;
  readonly #isWide: boolean;

  constructor(
    description: VtdDescription,
    isScalable = false,
    other?: OtherMemory,
    sim: Sim = new Sim(),
  ) {
    this.sim = sim;
    const caps = Capabilities.of(description);
    this.unit = new VtdUnit({ sim, ram: this.ram, caps, ...(other && { other }) });
    this.#isWide = isScalable;
    this.root = this.page();
    this.context = this.page();
    this.queue = this.page();
    this.status = this.page();
    if (isScalable) {
      this.directory = this.page();
      this.pasids = this.page();
      this.put(this.root, 0, BigInt(this.context) * 4096n + 1n);
      // DTE and PASIDE; 128 entries of the directory.
      this.put(this.context, 4 * (SID & 0x7f), BigInt(this.directory) * 4096n + 0b1101n);
      this.put(this.directory, 0, BigInt(this.pasids) * 4096n + 1n);
    } else {
      this.put(this.root, 0, BigInt(this.context) * 4096n + 1n);
    }
  }

  get mmio() {
    return this.unit.hardware.mmio;
  }

  /** A page of zeroes, by its number. */
  page(): number {
    return this.ram.alloc(1) / 2;
  }

  put(page: number, index: number, value: bigint): void {
    const lane = this.ram.laneOf(page * 2) + index * 2;
    const lanes = this.ram.lanesOf(page * 2);
    lanes[lane] = lo(value);
    lanes[lane + 1] = hi(value);
  }

  get(page: number, index: number): bigint {
    const lane = this.ram.laneOf(page * 2) + index * 2;
    const lanes = this.ram.lanesOf(page * 2);
    return toBigint(lanes[lane] ?? 0, lanes[lane + 1] ?? 0);
  }

  /** The context entry of legacy mode. */
  legacy(top: number, { did = 7, aw = 2, tt = 0, sid = SID, bits = 1n } = {}): void {
    this.put(this.context, (sid & 0xff) * 2, BigInt(top) * 4096n + BigInt(tt << 2) + bits);
    this.put(this.context, (sid & 0xff) * 2 + 1, BigInt(aw) + (BigInt(did) << 8n));
  }

  /** A PASID table entry. PWSNP is set unless told. */
  pasid(
    pasid: number,
    pgtt: number,
    { ss = 0, fs = 0, did = 7, aw = 2, bits = 0n, bits1 = 1n << 23n, bits2 = 0n } = {},
  ): void {
    const at = (pasid & 63) * 8;
    this.put(this.pasids, at, BigInt(ss) * 4096n + BigInt((pgtt << 6) | (aw << 2)) + 1n + bits);
    this.put(this.pasids, at + 1, BigInt(did) + bits1);
    this.put(this.pasids, at + 2, BigInt(fs) * 4096n + bits2);
  }

  /** Puts an entry of `level` for an address, with tables above it; the table that it is in, and its index. */
  map(
    top: number,
    levels: number,
    address: bigint,
    entry: bigint,
    { level = 0, table = SS_RW } = {},
  ): [page: number, index: number] {
    let at = top;
    for (let now = levels - 1; ; now--) {
      const index = Number((address >> BigInt(12 + 9 * now)) & 511n);
      if (now === level) {
        this.put(at, index, entry);
        return [at, index];
      }
      if (this.get(at, index) === 0n) this.put(at, index, BigInt(this.page()) * 4096n + table);
      at = Number((this.get(at, index) >> 12n) & 0xff_ffff_ffffn);
    }
  }

  on(): void {
    const { mmio } = this;
    mmio.write64(0x90, BigInt(this.queue) * 4096n + (this.#isWide ? 0x800n : 0n));
    mmio.write64(0x20, BigInt(this.root) * 4096n + (this.#isWide ? 0x400n : 0n));
    mmio.write32(0x18, GCMD_SRTP);
    mmio.write32(0x18, GCMD_TE);
  }

  queueOn(): void {
    this.mmio.write32(0x18, GCMD_TE + GCMD_QIE);
  }

  /** Submits descriptors of two 64-bit words, and lets the queue run. */
  submit(...descriptors: readonly (readonly bigint[])[]): void {
    this.enqueue(...descriptors);
    this.sim.settle();
  }

  /** The same, for tasks: the queue runs when it comes to it. */
  enqueue(...descriptors: readonly (readonly bigint[])[]): void {
    const words = this.#isWide ? 4 : 2;
    for (const descriptor of descriptors) {
      for (let i = 0; i < words; i++)
        this.put(this.queue, this.#tail * words + i, descriptor[i] ?? 0n);
      this.#tail = (this.#tail + 1) % (512 / words);
    }
    this.mmio.write32(0x88, this.#tail * words * 8);
  }

  dma(address: bigint, access = 0, pasid = NO_PASID, sid = SID): number {
    return this.unit.translate(sid, pasid, lo(address), hi(address), access);
  }

  /** The fault records that are full, in order, cleared. */
  faults(at = 0x400, count = 8): Fault[] {
    const found: Fault[] = [];
    for (let i = 0; i < count; i++) {
      const [low, high] = [this.mmio.read64(at + i * 16), this.mmio.read64(at + i * 16 + 8)];
      if (high >> 63n === 0n) continue;
      const hasPasid = ((high >> 31n) & 1n) === 1n;
      found.push({
        reason: Number((high >> 32n) & 0xffn),
        sid: Number(high & 0xffffn),
        address: low,
        isRead: ((high >> 62n) & 1n) === 1n,
        pasid: hasPasid ? Number((high >> 40n) & 0xf_ffffn) : undefined,
      });
      this.mmio.write32(at + i * 16 + 12, 0x8000_0000);
    }
    return found;
  }
}
