// SPDX-License-Identifier: Apache-2.0
import type { DeviceFile, IoctlResult } from '../kernel/file.ts';
import { Errno } from '../base/errno.ts';
import type { ClientMemory } from '../memory/client_memory.ts';
import type { FrameRun } from '../memory/frame.ts';
import { PAGE_SIZE } from '../memory/mm.ts';
import type { Pages } from './pages.ts';

/**
 * A DMA-buf: memory that a driver exports as a descriptor, can be mapped into address spaces, and can be revoked. The
 * memory lives until the descriptor and every map of it are gone. Source: the test driver's DMA-buf of selftest.c.
 */
export class DmaBuf implements DeviceFile {
  readonly name = 'anon_inode:dmabuf';
  recording = false;
  readonly run: FrameRun;
  readonly size: number;
  revoked = false;
  private readonly memory: ClientMemory;
  private readonly importers = new Set<Pages>();
  private open = true;

  /** @param size in bytes, a multiple of the page size */
  constructor(memory: ClientMemory, size: number) {
    this.memory = memory;
    this.size = size;
    this.run = memory.allocate(size / PAGE_SIZE);
  }

  attach(pages: Pages): void {
    this.importers.add(pages);
  }

  detach(pages: Pages): void {
    this.importers.delete(pages);
    this.freeIfUnused();
  }

  /** Takes the memory back (or lends it again). Maps made before stay dead even when it is lent again. */
  setRevoked(revoked: boolean): void {
    this.revoked = revoked;
    for (const pages of this.importers) pages.revoke();
  }

  ioctl(): IoctlResult {
    return { value: -Errno.ENOTTY, why: 'the test DMA-buf has no ioctls here', call: undefined };
  }

  release(): void {
    this.open = false;
    this.freeIfUnused();
  }

  private freeIfUnused(): void {
    if (!this.open && this.importers.size === 0) this.memory.free(this.run);
  }
}
