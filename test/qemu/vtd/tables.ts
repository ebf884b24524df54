// SPDX-License-Identifier: Apache-2.0
import type { Hardware } from '../../../src/kernel/hardware.ts';
import { FRAME_SIZE } from '../../../src/memory/frame.ts';

const RTADDR = 0x20;
const SCALABLE = 0x400n;
const ADDRESS = 0x000f_ffff_ffff_f000n;

/**
 * Finds the entries that lead to a translation, from the root table pointer on, and changes them behind the driver's back. Addresses are
 * bytes of physical memory; words have 64 bits.
 */
export class Tables {
  readonly #hardware: Hardware;

  constructor(hardware: Hardware) {
    this.#hardware = hardware;
  }

  get isScalable(): boolean {
    return (this.#hardware.mmio.read64(RTADDR) & SCALABLE) !== 0n;
  }

  read(address: bigint): bigint {
    const [lanes, lane] = this.#place(address);
    return (BigInt(lanes[lane + 1] ?? 0) << 32n) | BigInt(lanes[lane] ?? 0);
  }

  write(address: bigint, value: bigint): void {
    const [lanes, lane] = this.#place(address);
    lanes[lane] = Number(value & 0xffff_ffffn);
    lanes[lane + 1] = Number(value >> 32n);
    const frame = Number(address / BigInt(FRAME_SIZE));
    this.#hardware.mem.flush(frame, Number(address % BigInt(FRAME_SIZE)), 8);
  }

  /** The half of the root entry that leads to a device's context table. */
  root(sourceId: number): bigint {
    const table = this.#hardware.mmio.read64(RTADDR) & ADDRESS;
    const half = this.isScalable && (sourceId & 0x80) !== 0 ? 8 : 0;
    return table + BigInt((sourceId >>> 8) * 16 + half);
  }

  context(sourceId: number): bigint {
    const table = this.read(this.root(sourceId)) & ADDRESS;
    const [index, size] = this.isScalable ? [sourceId & 0x7f, 32] : [sourceId & 0xff, 16];
    return table + BigInt(index * size);
  }

  /** The first entries: where requests without PASID are looked up. */
  directory(sourceId: number): bigint {
    return this.read(this.context(sourceId)) & ADDRESS;
  }

  pasid(sourceId: number): bigint {
    return this.read(this.directory(sourceId)) & ADDRESS;
  }

  /** The page-table entry of an address at a level, 0 for leaves of 4 KiB. */
  page(sourceId: number, iova: bigint, level: number, topLevel = 3): bigint {
    let table = this.#top(sourceId);
    for (let at = topLevel; ; at--) {
      const index = (iova >> BigInt(12 + 9 * at)) & 0x1ffn;
      const entry = table + index * 8n;
      if (at === level) return entry;
      table = this.read(entry) & ADDRESS;
    }
  }

  #top(sourceId: number): bigint {
    if (!this.isScalable) return this.read(this.context(sourceId)) & ADDRESS;
    const entry = this.pasid(sourceId);
    const isFirst = ((this.read(entry) >> 6n) & 7n) === 1n;
    return this.read(entry + (isFirst ? 16n : 0n)) & ADDRESS;
  }

  #place(address: bigint): [lanes: Uint32Array, lane: number] {
    const { ram } = this.#hardware.mem;
    const frame = Number(address / BigInt(FRAME_SIZE));
    const lane = ram.laneOf(frame) + Number(address % BigInt(FRAME_SIZE)) / 4;
    return [ram.lanesOf(frame), lane];
  }
}
