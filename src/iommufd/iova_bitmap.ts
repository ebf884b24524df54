// SPDX-License-Identifier: Apache-2.0
import type { Mm } from '../memory/mm.ts';
import { PAGE_SIZE } from '../memory/mm.ts';

const BITS_PER_PAGE = BigInt(PAGE_SIZE * 8);

/**
 * A bitmap in client memory, one bit for each 2^`lg2` bytes of IOVA from `iova` on. Bits are set page by page of the bitmap, and
 * those that were set stay; what can not be written is silently left out, as on Linux. Source: iova_bitmap.c.
 */
export class IovaBitmap {
  private readonly mm: Mm;
  private readonly address: bigint;
  private readonly iova: bigint;
  private readonly lg2: bigint;
  /** Bits that there are; those beyond are not set. */
  private readonly bits: bigint;
  /** The page of the bitmap that is being changed, by its address, and the part of it that the bitmap has. */
  private page: { readonly address: bigint; readonly bytes: Uint8Array } | undefined;

  constructor(mm: Mm, address: bigint, iova: bigint, length: bigint, lg2: number) {
    this.mm = mm;
    this.address = address;
    this.iova = iova;
    this.lg2 = BigInt(lg2);
    this.bits = (((length - 1n) >> this.lg2) / 8n + 1n) * 8n;
  }

  /** Sets the bits of `length` bytes of IOVA, up to the first page of the bitmap that can not be written. */
  set(iova: bigint, length: bigint): void {
    let bit = (iova - this.iova) >> this.lg2;
    const last = (iova + length - 1n - this.iova) >> this.lg2;
    while (bit <= last && bit < this.bits) {
      const byte = this.address + bit / 8n;
      const bytes = this.open(byte);
      if (!bytes) return;
      const first = (byte % BigInt(PAGE_SIZE)) * 8n + (bit % 8n);
      const room = BITS_PER_PAGE - first;
      const count = last - bit + 1n < room ? last - bit + 1n : room;
      setBits(bytes, Number(first), Number(count));
      bit += count;
    }
  }

  /** Writes back what was changed; needed at the end. */
  flush(): void {
    if (this.page) this.mm.copyOut(this.page.address, this.page.bytes);
    this.page = undefined;
  }

  /** The page that holds a byte of the bitmap, or undefined where it can not be written. */
  private open(byte: bigint): Uint8Array | undefined {
    const address = byte - (byte % BigInt(PAGE_SIZE));
    if (this.page?.address === address) return this.page.bytes;
    this.flush();
    const bytes = new Uint8Array(PAGE_SIZE);
    if (!this.mm.copyIn(address, bytes) || !this.mm.copyOut(address, bytes)) return undefined;
    this.page = { address, bytes };
    return bytes;
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
