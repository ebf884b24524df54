// SPDX-License-Identifier: Apache-2.0
/** Queues that are read, written and polled, and pages of the descriptor that are mapped. */
import {
  iommu_hwpt_page_response,
  iommu_hwpt_pgfault,
  IOMMU_VEVENTQ_FLAG_LOST_EVENTS,
} from '../../../src/abi/iommufd.ts';
import { Errno, ErrnoError } from '../../../src/base/errno.ts';
import type { MmapRegion } from '../../../src/iommufd/mmap.ts';
import { type DeviceFile, Poll } from '../../../src/kernel/file.ts';
import { PAGE_SIZE } from '../../../src/memory/mm.ts';
import { Place } from './client.ts';
import type { Op } from './ops.ts';
import type { Player } from './player.ts';

/** Cleared around each op. */
const SCRATCH = 8192;
const WORDS = 2;

/** Answers as Linux does for any file before it asks the file itself. */
function onFile(player: Player, body: (file: DeviceFile) => number): number {
  const open = player.client.process.get(player.args.int('fd', -1));
  if (!open) return -Errno.EBADF;
  if (open.kind !== 'device') throw new Error('a script uses a file as a queue that is none');
  const value = body(open.file);
  player.why = value < 0 ? (open.file.refusal ?? '') : '';
  return value;
}

function readQueue(player: Player, bytes: number): number {
  const { args, client } = player;
  const address = args.pointer('bptr', Place.SC);
  return onFile(player, (file) => {
    if (!file.read) return -Errno.EINVAL;
    if (args.has('off')) return -Errno.ESPIPE;
    return file.read(client.process, address, bytes);
  });
}

const writeQueue = (player: Player, address: bigint, bytes: number): number =>
  onFile(player, (file) => file.write?.(player.client.process, address, bytes) ?? -Errno.EINVAL);

function scratchView({ client: { scratch } }: Player): DataView {
  scratch.fill(0, 0, SCRATCH);
  return new DataView(scratch.buffer, scratch.byteOffset);
}

function faultRead(player: Player): void {
  const { args } = player;
  const view = scratchView(player);
  const { size } = iommu_hwpt_pgfault;
  const bytes = args.has('bytes') ? Number(args.u64('bytes')) : args.u32('n', 1) * size;
  const done = readQueue(player, bytes);
  player.head(done);
  for (let i = 0; !args.has('bptr') && i < Math.floor(done / size); i++) {
    const { flags, dev_id, pasid, grpid, perm, __reserved, addr, length, cookie } =
      iommu_hwpt_pgfault.on(view, i * size);
    const hex = (value: number | bigint): string => value.toString(16);
    player.output(`c${i}`, cookie);
    player.print(` {fl=${hex(flags)} dev=${dev_id} pasid=${hex(pasid)} grp=${hex(grpid)}`);
    player.print(` perm=${hex(perm)} rs=${hex(__reserved)} addr=${hex(addr)} len=${hex(length)}`);
    player.print(` cookie=${hex(cookie)}}`);
  }
  scratchView(player);
}

function faultWrite(player: Player): void {
  const { args } = player;
  const view = scratchView(player);
  const { size } = iommu_hwpt_page_response;
  const responses = args.tuples('r', WORDS);
  responses.forEach(([cookie = 0n, code = 0n], i) => {
    const response = iommu_hwpt_page_response.on(view, i * size);
    response.cookie = Number(BigInt.asUintN(32, cookie));
    response.code = Number(BigInt.asUintN(32, code));
  });
  const bytes = Number(args.u64('bytes', responses.length * size));
  player.head(writeQueue(player, args.pointer('bptr', Place.SC), bytes));
  scratchView(player);
}

const HEADER = 8;
const VIRTUAL_ID = 4;

function veventRead(player: Player): void {
  const { args } = player;
  const view = scratchView(player);
  const done = readQueue(player, Number(args.u64('bytes', 64)));
  player.head(done);
  for (let at = 0; !args.has('bptr') && done - at >= HEADER;) {
    const flags = view.getUint32(at, true);
    player.print(` {fl=${flags.toString(16)} seq=${view.getUint32(at + 4, true)}`);
    at += HEADER;
    if (!(flags & IOMMU_VEVENTQ_FLAG_LOST_EVENTS) && done - at >= VIRTUAL_ID) {
      player.print(` virt=${view.getUint32(at, true).toString(16)}`);
      at += VIRTUAL_ID;
    }
    player.print('}');
  }
  scratchView(player);
}

function veventWrite(player: Player): void {
  player.head(writeQueue(player, Place.SC, HEADER));
}

function poll(player: Player): void {
  const fd = player.args.int('fd', -1);
  if (fd < 0) {
    player.print(' ret=-2 ev=0');
    return;
  }
  const open = player.client.process.get(fd);
  const always = Poll.IN | Poll.OUT;
  const holds = open?.kind === 'device' ? (open.file.poll?.() ?? always) : always;
  const events = open ? holds & always : Poll.NVAL;
  player.print(` ret=${events ? 1 : 0} ev=${events.toString(16)}`);
}

const PROT_EXEC = 4;
const ADDRESSES = 2n ** 47n;

const FIRST_MAP = 0x7000_0000_0000n;
const MAP_STRIDE = 0x10_0000n;

function mmap(player: Player): void {
  const { args } = player;
  const asked = args.u64('len', SCRATCH);
  const page = BigInt(PAGE_SIZE);
  const length = ((asked + page - 1n) / page) * page;
  // Linux looks for room before it asks the file.
  if (length >= ADDRESSES) {
    player.head(-Errno.ENOMEM);
    return;
  }
  const request = {
    offset: args.u64('off'),
    length,
    shared: args.u64('shared', 1) !== 0n,
    executable: (args.u32('prot', 3) & PROT_EXEC) !== 0,
  };
  let region: MmapRegion;
  try {
    region = player.context.file.context.mmaps.map(request);
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
    player.why = error.message;
    player.head(-error.errno);
    return;
  }
  const address = FIRST_MAP + MAP_STRIDE * BigInt(player.maps.size);
  player.maps.set(address, region);
  // The client sees what the pages hold now: nothing writes to them later, in any script.
  const bytes = player.client.mm.map(address, region.length);
  region.read(0, bytes);
  player.head(0);
  player.output('addr', address);
  player.output('len', asked);
  const first = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  player.print(` first=${first.toString(16)}`);
}

/** What `mmap` answers for the address where it failed. */
const NOT_MAPPED = 0xdead_0000n;

function munmap(player: Player): void {
  const address = player.args.u64('addr');
  const region = player.maps.get(address);
  if (region) {
    player.client.mm.unmap(address, region.length);
    region.closed();
    player.maps.set(address, undefined);
  }
  player.head(address === NOT_MAPPED ? -Errno.ENOENT : 0);
}

export const eventOps: Readonly<Record<string, Op>> = {
  fault_read: faultRead,
  fault_write: faultWrite,
  vevent_read: veventRead,
  vevent_write: veventWrite,
  poll,
  mmap,
  munmap,
};
