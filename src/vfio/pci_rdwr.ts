// SPDX-License-Identifier: Apache-2.0
import type { AccessWidth, Bar } from '../pci/bar.ts';

/** Bytes of a BAR that a client does not reach: reads give ones, writes are dropped. Half-open. */
export interface Excluded {
  readonly start: number;
  readonly end: number;
}

/** The widest access that is aligned at `offset` and fits `bytes`. */
function widthAt(offset: number, bytes: number): AccessWidth {
  if (bytes >= 8 && offset % 8 === 0) return 8;
  if (bytes >= 4 && offset % 4 === 0) return 4;
  return bytes >= 2 && offset % 2 === 0 ? 2 : 1;
}

/** Walks `length` bytes from `offset` on: one access for each stretch, or a stretch that is excluded. */
function walk(
  offset: number,
  length: number,
  excluded: Excluded,
  access: (offset: number, width: AccessWidth, done: number) => void,
  skip: (done: number, bytes: number) => void,
): void {
  for (let done = 0; done < length;) {
    const at = offset + done;
    const left = length - done;
    if (at >= excluded.start && at < excluded.end) {
      const bytes = Math.min(left, excluded.end - at);
      skip(done, bytes);
      done += bytes;
      continue;
    }
    const width = widthAt(at, at < excluded.start ? Math.min(left, excluded.start - at) : left);
    access(at, width, done);
    done += width;
  }
}

const view = new DataView(new ArrayBuffer(8));
const bytes = new Uint8Array(view.buffer);

/** Reads registers with the widest accesses that alignment allows: 8, 4, 2 and 1 bytes (vfio_pci_core_do_io_rw()). */
export function readBar(bar: Bar, offset: number, into: Uint8Array, excluded: Excluded): void {
  const access = (at: number, width: AccessWidth, done: number): void => {
    view.setBigUint64(0, bar.read(at, width), true);
    into.set(bytes.subarray(0, width), done);
  };
  walk(offset, into.length, excluded, access, (done, size) => into.fill(0xff, done, done + size));
}

/** Writes registers, split as reads are. */
export function writeBar(bar: Bar, offset: number, from: Uint8Array, excluded: Excluded): void {
  const access = (at: number, width: AccessWidth, done: number): void => {
    bytes.fill(0);
    bytes.set(from.subarray(done, done + width));
    bar.write(at, width, view.getBigUint64(0, true));
  };
  walk(offset, from.length, excluded, access, () => undefined);
}
