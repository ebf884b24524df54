// SPDX-License-Identifier: Apache-2.0
import { FRAME_SHIFT } from '../memory/frame.ts';
import type { Mm } from '../memory/mm.ts';
import { PAGE_SIZE } from '../memory/mm.ts';

const BITS_PER_PAGE = PAGE_SIZE * 8;

/**
 * A bitmap in client memory, one bit for each 2^`lg2` bytes of IOVA from `iova` on. Bits are set page by page of the bitmap, and
 * those that were set stay; what can not be written is silently left out, as on Linux. Source: iova_bitmap.c.
 * A stretch can be longer than the bitmap, where a large entry was written to and a part of it was asked for. Linux sets all of its bits
 * as far as the pages go that it has pinned for the bitmap, beyond the bitmap's end; programs see it, so we do.
 * A bitmap can have a bit for each of millions of frames, so bits are numbers; those beyond 2^53, which no memory has room for, need
 * not be exact.
 */
export class IovaBitmap {
  private readonly mm: Mm;
  private readonly address: bigint;
  /** The frame of the first bit. */
  private readonly firstFrame: number;
  private readonly bitsPerFrame: number;
  /** Bits that there are, in whole bytes. */
  private readonly bits: number;
  /** The page of the bitmap that is being changed, by its address. */
  private page: { readonly address: bigint; readonly bytes: Uint8Array } | undefined;
  /** Which bits it has; for the first page perhaps some before bit 0. */
  private pageFirst = 0;
  private pageEnd = 0;

  /** `iova` is aligned to 2^`lg2` and to frames. */
  constructor(mm: Mm, address: bigint, iova: bigint, length: bigint, lg2: number) {
    this.mm = mm;
    this.address = address;
    this.firstFrame = Number(iova >> BigInt(FRAME_SHIFT));
    this.bitsPerFrame = 2 ** (FRAME_SHIFT - lg2);
    this.bits = Number((((length - 1n) >> BigInt(lg2)) / 8n + 1n) * 8n);
  }

  /** Sets the bits of frames of IOVA, the first of which is in the bitmap, up to the first page of it that can not be written. */
  set(frame: number, frames: number): void {
    const from = frame - this.firstFrame;
    let bit = Math.floor(from * this.bitsPerFrame);
    let end = Math.ceil((from + frames) * this.bitsPerFrame);
    if (end > this.bits) end = Math.min(end, this.pinnedEnd(bit));
    while (bit < end) {
      if (!(bit >= this.pageFirst && bit < this.pageEnd) && !this.open(bit)) return;
      if (!this.page) return;
      const until = Math.min(end, this.pageEnd);
      setBits(this.page.bytes, bit - this.pageFirst, until - bit);
      bit = until;
    }
  }

  /**
   * Where the pages end that Linux pins for a stretch that begins at a bit and does not end in the bitmap: one more than the rest of
   * the bitmap needs where that does not begin with a page.
   */
  private pinnedEnd(bit: number): number {
    const first = Math.floor(bit / 8);
    const offset = Number((this.address + BigInt(first)) & BigInt(PAGE_SIZE - 1));
    const pages = Math.ceil((this.bits / 8 - first) / PAGE_SIZE) + (offset > 0 ? 1 : 0);
    return (first - offset + pages * PAGE_SIZE) * 8;
  }

  /** Writes back what was changed; needed at the end. */
  flush(): void {
    if (this.page) this.mm.copyOut(this.page.address, this.page.bytes);
    this.page = undefined;
    this.pageEnd = this.pageFirst;
  }

  /** Turns to the page of the bitmap that holds a bit; false where it can not be written. */
  private open(bit: number): boolean {
    this.flush();
    const byte = Math.floor(bit / 8);
    const at = this.address + BigInt(byte);
    const offset = Number(at & BigInt(PAGE_SIZE - 1));
    const address = at - BigInt(offset);
    const bytes = new Uint8Array(PAGE_SIZE);
    if (!this.mm.copyIn(address, bytes) || !this.mm.copyOut(address, bytes)) return false;
    this.page = { address, bytes };
    this.pageFirst = (byte - offset) * 8;
    this.pageEnd = this.pageFirst + BITS_PER_PAGE;
    return true;
  }
}

function setBits(bytes: Uint8Array, first: number, count: number): void {
  const end = first + count;
  for (let bit = first; bit < end;) {
    const byte = bit >>> 3;
    if ((bit & 7) === 0 && bit + 8 <= end) {
      const whole = (end - bit) >>> 3;
      bytes.fill(0xff, byte, byte + whole);
      bit += whole * 8;
    } else {
      bytes[byte] = (bytes[byte] ?? 0) | (1 << (bit & 7));
      bit++;
    }
  }
}
