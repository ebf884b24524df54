// SPDX-License-Identifier: Apache-2.0

/**
 * One piece of memory with a fixed address, shared with the kernel: system calls get pointers into it as plain
 * numbers, which costs a tenth of passing Buffers. Places are taken once, at start, and never given back.
 */
export class Arena {
  /** Address of byte 0. Below 2^47, so numbers hold it exactly. */
  readonly base: number;
  readonly bytes: Buffer;
  readonly u8: Uint8Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly u64: BigUint64Array;
  readonly view: DataView;
  private end = 0;

  constructor(sizeBytes: number, addressOf: (bytes: Uint8Array) => bigint) {
    const buffer = new ArrayBuffer(Math.ceil(sizeBytes / 64) * 64);
    this.bytes = Buffer.from(buffer);
    this.u8 = new Uint8Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.u64 = new BigUint64Array(buffer);
    this.view = new DataView(buffer);
    this.base = Number(addressOf(this.bytes));
  }

  /** Reserves `sizeBytes` at a multiple of 64 and returns the offset. */
  take(sizeBytes: number): number {
    const offset = Math.ceil(this.end / 64) * 64;
    if (offset + sizeBytes > this.u8.length) throw new RangeError(`arena full at ${offset}`);
    this.end = offset + sizeBytes;
    return offset;
  }

  /** Writes a NUL-terminated string at `offset`; the caller took enough room. */
  writeString(offset: number, text: string): void {
    const length = this.bytes.write(text, offset, 'utf8');
    this.u8[offset + length] = 0;
  }

  /** Writes a 64-bit value that a number holds (an address, a length) without going through BigInt. */
  writeWord(offset: number, value: number): void {
    this.u32[offset >>> 2] = value >>> 0;
    this.u32[(offset >>> 2) + 1] = Math.floor(value / 0x1_0000_0000);
  }

  /** Reads a 64-bit word as a number; exact below 2^53. */
  readWord(offset: number): number {
    const at = offset >>> 2;
    return (this.u32[at] as number) + (this.u32[at + 1] as number) * 0x1_0000_0000;
  }
}
