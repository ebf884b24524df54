// SPDX-License-Identifier: Apache-2.0
import { ftruncateSync, readFileSync, readSync, writeSync } from 'node:fs';
import type { SharedBytes } from '../src/kernel/file.ts';
import { parseMaps } from './mappings.ts';
import type { HostFile } from './open_files.ts';
import { childrenOf } from './proc_read.ts';

const ZEROES = new Uint8Array(1 << 16);

/**
 * The bytes of one of our files as its clients map them: the file is a memfd, so Linux itself maps it into them, and we read and write it
 * through our own description. After the last close there is nothing left to read, and what is written is lost.
 */
export class SharedFile implements SharedBytes {
  private readonly fd: number;
  private readonly file: HostFile;
  /** `st_dev` of the file. */
  private readonly device: bigint;
  private size = 0;

  constructor(fd: number, file: HostFile, device: number) {
    this.fd = fd;
    this.file = file;
    this.device = BigInt(device);
  }

  read(offset: number, into: Uint8Array): void {
    const got = this.file.released ? 0 : readSync(this.fd, into, 0, into.length, offset);
    into.fill(0, got);
  }

  write(offset: number, from: Uint8Array): void {
    if (!this.file.released) writeSync(this.fd, from, 0, from.length, offset);
  }

  clear(offset: number, length: number): void {
    // What the file grows by reads as 0.
    const end = offset + length;
    const used = Math.min(length, Math.max(0, this.size - offset));
    if (end > this.size && !this.file.released) ftruncateSync(this.fd, (this.size = end));
    for (let done = 0; done < used; done += ZEROES.length)
      this.write(offset + done, ZEROES.subarray(0, used - done));
  }

  /** Looks at all processes of the run: a child has the map although it has never called us. */
  isMapped(offset: number, length: number): boolean {
    if (this.file.released) return false;
    const inode = BigInt(this.file.inode);
    const [start, end] = [BigInt(offset), BigInt(offset + length)];
    for (const pid of descendants(process.pid)) {
      for (const line of mapsOf(pid)) {
        if (line.inode !== inode || line.device !== this.device) continue;
        if (line.offset < end && line.offset + (line.end - line.start) > start) return true;
      }
    }
    return false;
  }
}

function mapsOf(pid: number): ReturnType<typeof parseMaps> {
  try {
    return parseMaps(readFileSync(`/proc/${pid}/maps`, 'latin1'));
  } catch {
    return [];
  }
}

/** Processes that come from `pid` now. Orphans are ours again, because we adopt them. */
function* descendants(pid: number): Generator<number> {
  for (const child of knownChildren(pid)) {
    yield child;
    yield* descendants(child);
  }
}

function knownChildren(pid: number): number[] {
  try {
    return childrenOf(pid);
  } catch {
    return [];
  }
}
