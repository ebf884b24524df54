// SPDX-License-Identifier: Apache-2.0
import { ErrnoError } from '../base/errno.ts';
import { type ClientMemory, isBadPage } from '../memory/client_memory.ts';
import type { FileMemory } from '../memory/file_memory.ts';
import { type FrameRun, FRAMES_PER_PAGE } from '../memory/frame.ts';
import { type Mm, PAGE_SHIFT } from '../memory/mm.ts';
import type { DmaBuf } from './dma_buf.ts';

/** Where pages come from; addresses and offsets are those of the first page, page aligned. */
export type PageSource =
  | { readonly kind: 'user'; readonly mm: Mm; readonly address: bigint }
  /** `file` is undefined for descriptors whose pages nobody can pin (a device, a pipe): Linux finds out at the pin. */
  | { readonly kind: 'file'; readonly file: FileMemory | undefined; readonly start: bigint }
  | { readonly kind: 'dmabuf'; readonly buffer: DmaBuf; readonly start: bigint };

const bytes = (pages: number): bigint => BigInt(pages) << BigInt(PAGE_SHIFT);

/**
 * The frames of pages `first..last` of a source as they are now, in order; nothing is pinned.
 * @throws ErrnoError EFAULT (memory that can not be reached so), EINVAL (a file whose pages can not be pinned, or its end)
 */
export function findFrames(
  memory: ClientMemory,
  source: PageSource,
  first: number,
  last: number,
  write: boolean,
): FrameRun[] {
  const pages = last - first + 1;
  switch (source.kind) {
    case 'user': {
      const found = memory.lookup(source.mm, source.address + bytes(first), pages, write);
      if (!isBadPage(found)) return found;
      const at = found.address.toString(16);
      throw new ErrnoError('EFAULT', `the page at 0x${at} of the client is ${found.reason}`);
    }
    case 'file':
      return findInFile(memory, source.file, source.start + bytes(first), pages);
    case 'dmabuf':
      return [dmabufFrames(source.buffer, source.start, first, last)];
  }
}

/** Source: memfd_pin_folios(). */
function findInFile(
  memory: ClientMemory,
  file: FileMemory | undefined,
  at: bigint,
  pages: number,
): FrameRun[] {
  if (!file?.pinnable) {
    const what = 'the file is no memfd, shared memory or hugetlbfs';
    throw new ErrnoError('EINVAL', `${what}: its pages can not be pinned`);
  }
  const end = at + bytes(pages);
  if (end > file.size()) {
    const [byte, size] = [end.toString(16), file.size().toString(16)];
    throw new ErrnoError('EINVAL', `${file.name} ends at 0x${size}, before byte 0x${byte}`);
  }
  return memory.lookupFile(file, Number(at >> BigInt(PAGE_SHIFT)), pages);
}

/** A DMA-buf stays where it is. */
export function dmabufFrames(buffer: DmaBuf, start: bigint, first: number, last: number): FrameRun {
  const page = Number(start >> BigInt(PAGE_SHIFT)) + first;
  const frame = buffer.run.frame + page * FRAMES_PER_PAGE;
  return { frame, frames: (last - first + 1) * FRAMES_PER_PAGE };
}
