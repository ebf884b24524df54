// SPDX-License-Identifier: Apache-2.0
/** What the process does beside its calls: descriptors, memory, who it is; and ioctls by number. */
import { _IOC } from '../../../src/abi/ioctl.ts';
import { IOMMUFD_TYPE } from '../../../src/abi/iommufd_cmd.ts';
import { Errno } from '../../../src/base/errno.ts';
import { PAGE_SIZE } from '../../../src/memory/mm.ts';
import { hex8, pattern } from './bytes.ts';
import { ARENA, HASHED } from './client.ts';
import type { Op } from './ops.ts';
import type { Player } from './player.ts';

const MOST_WORDS = 32;

/** Any ioctl number, with 32-bit words as data. */
function raw(player: Player): void {
  const { args, client } = player;
  const { arena } = client;
  const words = args.tuples('w', 1, MOST_WORDS);
  arena.fill(0, 0, PAGE_SIZE);
  const view = new DataView(arena.buffer, arena.byteOffset);
  words.forEach(([word = 0n], i) => {
    view.setUint32(4 * i, Number(BigInt.asUintN(32, word)), true);
  });
  const before = arena.slice(0, 4 * MOST_WORDS);
  const cmd = _IOC(
    args.u32('dir'),
    args.u32('type', IOMMUFD_TYPE),
    args.u32('nr', 0x80),
    args.u32('isz'),
  );
  const value = player.ioctl(cmd, args.text('ptr') === 'null' ? 0n : ARENA);
  player.head(
    value,
    before.some((byte, i) => byte !== arena[i]),
  );
}

function close(player: Player): void {
  const { process } = player.client;
  const fd = player.args.int('fd', -1);
  if (!process.get(fd)) {
    player.head(-Errno.EBADF);
    return;
  }
  process.close(fd);
  player.head(0);
}

function reopen(player: Player): void {
  const detached = player.pasids.detachAll(player, player.contextIndex);
  player.reopen();
  player.head(0);
  if (detached) player.print(` autodetach=${detached}`);
}

function context(player: Player): void {
  player.select(player.args.u32('n'));
  player.head(0);
}

function peek(player: Player): void {
  const { hash, bad } = player.client.hash(player.args.u64('va'), player.args.u64('len', 4));
  player.print(` h=${hex8(hash)} bad=${bad}`);
}

function fill(player: Player): void {
  const { args, client } = player;
  // What does not make a whole word is not written.
  const length = Number(args.u64('len', 8) & ~7n);
  const done = client.mm.copyOut(args.u64('va'), pattern(length, args.u64('seed', 1)));
  player.print(` ok=${done ? 1 : 0}`);
}

function hashAll(player: Player): void {
  for (const [name, bytes] of HASHED)
    player.print(` ${name}=${hex8(player.client.hashBuffer(name, bytes))}`);
}

const rangeOf = ({ args }: Player): [bigint, number] => [
  args.u64('va'),
  Number(args.u64('len', PAGE_SIZE)),
];

/** Whole pages, which Linux rounds a length up to; EINVAL where the address is none's, or there is no length. */
function pages(player: Player): readonly [address: bigint, length: number] | undefined {
  const [address, length] = rangeOf(player);
  if (address % BigInt(PAGE_SIZE) !== 0n || length === 0) {
    player.head(-Errno.EINVAL);
    return undefined;
  }
  return [address, Math.ceil(length / PAGE_SIZE) * PAGE_SIZE];
}

function userUnmap(player: Player): void {
  const range = pages(player);
  if (!range) return;
  player.client.mm.unmap(...range);
  player.head(0);
}

function userMap(player: Player): void {
  const range = pages(player);
  if (!range) return;
  const [, length] = rangeOf(player);
  player.client.mm.unmap(...range);
  player.client.mm.map(...range).set(pattern(length, player.args.u64('seed', 9)));
  player.head(0);
}

const PROT_READ = 1;
const PROT_WRITE = 2;

function userProtect(player: Player): void {
  const prot = player.args.u32('prot', PROT_READ);
  const done = player.client.mm.protect(...rangeOf(player), {
    readable: prot !== 0,
    writable: (prot & PROT_WRITE) !== 0,
  });
  player.head(done ? 0 : -Errno.ENOMEM);
}

/** setresuid: only root can become someone else, and is no longer root then. */
function setUid(player: Player): void {
  const { process } = player.client;
  const uid = player.args.u32('uid', 1000);
  if (process.user.uid !== 0 && process.user.uid !== uid) {
    player.head(-Errno.EPERM);
    return;
  }
  if (process.user.uid !== uid) {
    process.user = { uid, lockedPages: 0 };
    process.capabilities = [];
  }
  player.head(0);
}

/** setrlimit of both limits: without privilege the hard one only goes down. */
function resourceLimit(player: Player): void {
  const { process } = player.client;
  const pages = Math.floor(Number(player.args.u64('n')) / PAGE_SIZE);
  if (process.user.uid !== 0 && pages > process.memlock) {
    player.head(-Errno.EPERM);
    return;
  }
  process.memlock = pages;
  player.head(0);
}

export const processOps: Readonly<Record<string, Op>> = {
  raw,
  close,
  reopen,
  ctx: context,
  peek,
  fill,
  hashall: hashAll,
  u_unmap: userUnmap,
  u_map: userMap,
  u_protect: userProtect,
  setuid: setUid,
  rlimit: resourceLimit,
};
