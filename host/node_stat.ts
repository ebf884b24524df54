// SPDX-License-Identifier: Apache-2.0
/** How our device nodes look to stat and statx, and who may open them. */
import type { StatLayout } from './arch.ts';
import type { Device } from './device.ts';
import { makeDevice } from './mappings.ts';
import { STATX_BASIC_STATS } from './uapi.ts';

const BLOCK_BYTES = 4096;
const STATX_BYTES = 256;
const CAP_DAC_OVERRIDE = 1;
/** Minor numbers of the anonymous devices that devtmpfs and the anonymous inodes are on. */
export const DEVTMPFS_MINOR = 5;
const ANON_INODEFS_MINOR = 15;

export interface NodeFacts {
  /** Type and permissions. */
  readonly mode: number;
  readonly rdev: Device['rdev'];
  /** Minor number of the file system it is on. */
  readonly minor: number;
  readonly uid: number;
  readonly gid: number;
  readonly inode: number;
  /** When the node appeared, in seconds. */
  readonly seconds: number;
}

/** A file that an ioctl made: all of them share an inode that has no type. */
export const anonymousFile = (seconds: number): NodeFacts => ({
  mode: 0o600,
  rdev: { major: 0, minor: 0 },
  minor: ANON_INODEFS_MINOR,
  uid: 0,
  gid: 0,
  inode: 2,
  seconds,
});

/** The bytes of `struct stat`. */
export function statBytes(layout: StatLayout, node: NodeFacts): Uint8Array {
  const view = new DataView(new ArrayBuffer(layout.size));
  const { rdev, mode } = node;
  view.setBigUint64(0, makeDevice(0, node.minor), true);
  view.setBigUint64(8, BigInt(node.inode), true);
  view.setUint32(layout.mode, mode, true);
  view.setUint32(layout.nlink, 1, true);
  view.setUint32(layout.uid, node.uid, true);
  view.setUint32(layout.gid, node.gid, true);
  view.setBigUint64(layout.rdev, makeDevice(rdev.major, rdev.minor), true);
  view.setUint32(layout.blksize, BLOCK_BYTES, true);
  for (let index = 0; index < 3; index += 1) {
    view.setBigUint64(layout.times + index * 16, BigInt(node.seconds), true);
  }
  return new Uint8Array(view.buffer);
}

/** The bytes of `struct statx`. */
export function statxBytes(node: NodeFacts): Uint8Array {
  const view = new DataView(new ArrayBuffer(STATX_BYTES));
  view.setUint32(0, STATX_BASIC_STATS, true);
  view.setUint32(4, BLOCK_BYTES, true);
  view.setUint32(16, 1, true);
  view.setUint32(20, node.uid, true);
  view.setUint32(24, node.gid, true);
  view.setUint16(28, node.mode, true);
  view.setBigUint64(32, BigInt(node.inode), true);
  // stx_atime, stx_ctime, stx_mtime; stx_btime (80) is not in the mask.
  for (const at of [64, 96, 112]) view.setBigUint64(at, BigInt(node.seconds), true);
  view.setUint32(128, node.rdev.major, true);
  view.setUint32(132, node.rdev.minor, true);
  view.setUint32(140, node.minor, true);
  return new Uint8Array(view.buffer);
}

export interface Credentials {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  capable(capability: number): boolean;
}

/** Whether the mode of the node gives all of `wanted` (4 read, 2 write, 1 execute) to the caller. */
export function permits(node: NodeFacts, wanted: number, who: Credentials): boolean {
  const { mode } = node;
  if (wanted & 1 && !(mode & 0o111)) return false;
  const isGroup = who.gid === node.gid || who.groups.includes(node.gid);
  const shift = who.uid === node.uid ? 6 : isGroup ? 3 : 0;
  return ((mode >> shift) & wanted) === wanted || who.capable(CAP_DAC_OVERRIDE);
}
