// SPDX-License-Identifier: Apache-2.0
import { IntervalNode } from '../base/interval_tree.ts';
import type { FileMemory } from './file_memory.ts';
import { FRAME_SIZE } from './frame.ts';
import type { Mm } from './mm.ts';

/** Where the bytes of a stretch of frames live; `at` names the byte that the first frame stands for. */
export type Backing =
  | { readonly kind: 'user'; readonly mm: Mm; readonly at: bigint }
  | { readonly kind: 'file'; readonly file: FileMemory; readonly at: bigint }
  /** Bytes of our own: a DMA-buf while it is `owned`, else pages saved from a client, kept only while pinned. */
  | { readonly kind: 'ram'; readonly bytes: Uint8Array; readonly owned: boolean }
  /** Pages that were lost with their process before they could be saved: they read as ones, writes are dropped. */
  | { readonly kind: 'lost' };

/** A stretch of frames with one backing. */
export class Segment extends IntervalNode<number> {
  readonly backing: Backing;

  constructor(frame: number, frames: number, backing: Backing) {
    super(frame, frame + frames - 1);
    this.backing = backing;
  }

  get frames(): number {
    return this.last - this.start + 1;
  }

  /** The same frames from `frame` on, as a segment of their own. */
  slice(frame: number, frames: number): Segment {
    return new Segment(
      frame,
      frames,
      advance(this.backing, (frame - this.start) * FRAME_SIZE, frames),
    );
  }

  /** Reads bytes at an offset into the segment; false where its bytes can not be reached. */
  read(offset: number, into: Uint8Array): boolean {
    const { backing } = this;
    switch (backing.kind) {
      case 'user':
        return backing.mm.readPinned(backing.at + BigInt(offset), into);
      case 'file':
        return backing.file.read(backing.at + BigInt(offset), into);
      case 'ram':
        into.set(backing.bytes.subarray(offset, offset + into.length));
        return true;
      case 'lost':
        into.fill(0xff);
        return true;
    }
  }

  write(offset: number, from: Uint8Array): boolean {
    const { backing } = this;
    switch (backing.kind) {
      case 'user':
        return backing.mm.writePinned(backing.at + BigInt(offset), from);
      case 'file':
        return backing.file.write(backing.at + BigInt(offset), from);
      case 'ram':
        backing.bytes.set(from, offset);
        return true;
      case 'lost':
        return true;
    }
  }
}

function advance(backing: Backing, bytes: number, frames: number): Backing {
  switch (backing.kind) {
    case 'user':
    case 'file':
      return { ...backing, at: backing.at + BigInt(bytes) };
    case 'ram':
      return { ...backing, bytes: backing.bytes.subarray(bytes, bytes + frames * FRAME_SIZE) };
    case 'lost':
      return backing;
  }
}
