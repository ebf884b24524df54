// SPDX-License-Identifier: Apache-2.0
/** Commands of the test driver about memory: checks, accesses, DMA-bufs. */
import * as abi from '../../../src/abi/iommufd_test.ts';
import { Errno } from '../../../src/base/errno.ts';
import { hex8, pattern, Xorshift64 } from './bytes.ts';
import { ARENA, Place, SCRATCH_BYTES } from './client.ts';
import { requestOf } from './ioctl.ts';
import type { Op } from './ops.ts';
import type { Player } from './player.ts';
import { testCommand } from './test_command.ts';

const PAGE = 4096;

function addReserved(player: Player): void {
  const { args } = player;
  const request = testCommand(player, abi.IOMMU_TEST_OP_ADD_RESERVED);
  request.cmd.id = args.u32('ioas');
  request.cmd.u.add_reserved.start = args.u64('start');
  request.cmd.u.add_reserved.length = args.u64('len');
  player.call(abi.IOMMU_TEST_CMD, request);
}

function checkMap(player: Player): void {
  const { args } = player;
  const request = testCommand(player, abi.IOMMU_TEST_OP_MD_CHECK_MAP);
  request.cmd.id = args.u32('hwpt');
  const { check_map: arg } = request.cmd.u;
  arg.iova = args.u64('iova');
  arg.length = args.u64('len');
  arg.uptr = args.u64('va');
  player.call(abi.IOMMU_TEST_CMD, request);
}

function checkRefs(player: Player): void {
  const { args } = player;
  const request = testCommand(player, abi.IOMMU_TEST_OP_MD_CHECK_REFS);
  const { check_refs: arg } = request.cmd.u;
  arg.length = args.u64('len', PAGE);
  arg.uptr = args.u64('va');
  arg.refs = args.u32('refs');
  player.call(abi.IOMMU_TEST_CMD, request);
}

const MOST_REFS = 10;

/** Finds how often a page is pinned by trying, as exec.c must. */
function refsOf(player: Player, address: bigint): string {
  const { cmd, bytes } = requestOf(abi.iommu_test_cmd);
  cmd.size = bytes.length;
  cmd.op = abi.IOMMU_TEST_OP_MD_CHECK_REFS;
  cmd.u.check_refs.length = BigInt(PAGE);
  cmd.u.check_refs.uptr = address;
  for (let refs = 0; refs < MOST_REFS; refs++) {
    cmd.u.check_refs.refs = refs;
    player.client.arena.set(bytes);
    const value = player.ioctl(abi.IOMMU_TEST_CMD, ARENA);
    if (value >= 0) return String(refs);
    if (value === -Errno.EFAULT) return 'F';
    if (value !== -Errno.EIO) return 'E';
  }
  return '?';
}

function refs(player: Player): void {
  const address = player.args.u64('va');
  const length = player.args.u64('len', PAGE);
  player.print(' refs=');
  for (let at = 0n; at < length; at += BigInt(PAGE)) player.print(refsOf(player, address + at));
}

function accessCreate(player: Player): void {
  const { args } = player;
  const request = testCommand(player, abi.IOMMU_TEST_OP_CREATE_ACCESS);
  const { cmd } = request;
  cmd.id = args.u32('ioas');
  cmd.u.create_access.flags = args.u32('flags');
  if (!player.call(abi.IOMMU_TEST_CMD, request) || !player.pointerIsGood) return;
  player.output('fd', cmd.u.create_access.out_access_fd);
  player.print(' fd=ok');
}

function accessReplace(player: Player): void {
  const request = testCommand(player, abi.IOMMU_TEST_OP_ACCESS_REPLACE_IOAS);
  request.cmd.id = player.args.u32('acc');
  request.cmd.u.access_replace_ioas.ioas_id = player.args.u32('ioas');
  player.call(abi.IOMMU_TEST_CMD, request);
}

function accessPages(player: Player): void {
  const { args } = player;
  const request = testCommand(player, abi.IOMMU_TEST_OP_ACCESS_PAGES);
  request.cmd.id = args.u32('acc');
  const { access_pages: arg } = request.cmd.u;
  arg.flags = args.u32('flags');
  arg.iova = args.u64('iova');
  arg.length = args.u64('len');
  arg.uptr = args.u64('va');
  if (!player.call(abi.IOMMU_TEST_CMD, request) || !player.pointerIsGood) return;
  player.output('item', arg.out_access_pages_id);
  player.print(` item=${arg.out_access_pages_id}`);
}

function accessUnpin(player: Player): void {
  const request = testCommand(player, abi.IOMMU_TEST_OP_DESTROY_ACCESS_PAGES);
  request.cmd.id = player.args.u32('acc');
  request.cmd.u.destroy_access_pages.access_pages_id = player.args.u32('item');
  player.call(abi.IOMMU_TEST_CMD, request);
}

/** Where in SC an access reads to and writes from, and how much of it at most. */
const RW_BYTES = 0x40000;

function accessRw(player: Player): void {
  const { args, client } = player;
  const request = testCommand(player, abi.IOMMU_TEST_OP_ACCESS_RW);
  request.cmd.id = args.u32('acc');
  const { access_rw: arg } = request.cmd.u;
  const address = args.u64('va', Place.SC + BigInt(RW_BYTES));
  const length = args.u64('len');
  arg.iova = args.u64('iova');
  arg.length = length;
  arg.uptr = address;
  arg.flags = args.u32('flags');
  const bytes = length > RW_BYTES ? RW_BYTES : Number(length);
  const isWrite = (arg.flags & abi.MOCK_ACCESS_RW_WRITE) !== 0;
  const isScratch = address >= Place.SC && address < Place.SC + BigInt(SCRATCH_BYTES);
  const at = isScratch ? Number(address - Place.SC) : 0;
  const around = isScratch
    ? client.scratch.subarray(at & ~7, (at & ~7) + ((bytes + 15) & ~7))
    : new Uint8Array();
  if (isWrite) around.set(pattern(around.length, args.u64('seed', 77)));
  else if (isScratch) client.scratch.fill(0x5a, at, at + bytes);
  player.call(abi.IOMMU_TEST_CMD, request);
  if (!isWrite) player.print(` h=${hex8(client.hash(address, BigInt(bytes)).hash)}`);
  around.fill(0);
}

function memoryLimit(player: Player): void {
  const request = testCommand(player, abi.IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT);
  request.cmd.u.memory_limit.limit = player.args.u32('limit', 65536);
  player.call(abi.IOMMU_TEST_CMD, request);
}

/** Where the bits to be made dirty are put in SC, and their bytes. */
const DIRTY = 0x30000;
const DIRTY_BYTES = 65536;

function dirty(player: Player): void {
  const { args, client } = player;
  const request = testCommand(player, abi.IOMMU_TEST_OP_DIRTY);
  const length = args.u64('len');
  const pageSize = args.u64('pgsz', PAGE);
  const bits = client.scratch.subarray(DIRTY, DIRTY + DIRTY_BYTES);
  const pages = pageSize ? length / pageSize : 0n;
  bits.fill(0);
  fillDirty(player, bits, pages > DIRTY_BYTES * 8 ? DIRTY_BYTES * 8 : Number(pages));
  request.cmd.id = args.u32('hwpt');
  const { dirty: arg } = request.cmd.u;
  arg.flags = args.u32('flags');
  arg.iova = args.u64('iova');
  arg.length = length;
  arg.page_size = pageSize;
  arg.uptr = args.pointer('bptr', Place.SC + BigInt(DIRTY));
  if (player.call(abi.IOMMU_TEST_CMD, request) && player.pointerIsGood)
    player.print(` nr=${arg.out_nr_dirty}`);
  bits.fill(0);
}

/** `mode` 0: about one page in four, by the seed `pat`; 1: all; 2: page `bit` only. */
function fillDirty({ args }: Player, bits: Uint8Array, pages: number): void {
  const mode = args.u64('mode');
  const only = args.u64('bit');
  const state = new Xorshift64(args.u64('pat', 1) * 2654435761n + 99n);
  for (let page = 0; page < pages; page++) {
    const chosen = (state.next().low & 3) === 0;
    if (mode === 1n || (mode === 0n && chosen) || (mode === 2n && BigInt(page) === only))
      bits[page >> 3] = (bits[page >> 3] ?? 0) | (1 << (page & 7));
  }
}

const O_RDWR_CLOEXEC = 0o2000002;

function dmabufGet(player: Player): void {
  const { args } = player;
  const request = testCommand(player, abi.IOMMU_TEST_OP_DMABUF_GET);
  const { dmabuf_get: arg } = request.cmd.u;
  arg.length = args.u32('len', PAGE);
  arg.open_flags = args.u32('oflags', O_RDWR_CLOEXEC);
  const { value, touched, outside } = player.request(abi.IOMMU_TEST_CMD, request);
  if (value < 0) {
    player.head(value, touched, outside);
    return;
  }
  player.output('fd', value);
  player.print(' ret=fd OK');
}

function dmabufRevoke(player: Player): void {
  const request = testCommand(player, abi.IOMMU_TEST_OP_DMABUF_REVOKE);
  request.cmd.u.dmabuf_revoke.dmabuf_fd = player.args.int('fd', -1);
  request.cmd.u.dmabuf_revoke.revoked = player.args.u32('revoked', 1);
  player.call(abi.IOMMU_TEST_CMD, request);
}

function anyCommand(player: Player): void {
  const request = testCommand(player, player.args.u32('op'));
  request.cmd.id = player.args.u32('id');
  player.call(abi.IOMMU_TEST_CMD, request);
}

export const testOps: Readonly<Record<string, Op>> = {
  t_reserved: addReserved,
  t_check_map: checkMap,
  t_check_refs: checkRefs,
  t_refs: refs,
  t_access_create: accessCreate,
  t_access_replace: accessReplace,
  t_access_pages: accessPages,
  t_access_unpin: accessUnpin,
  t_access_rw: accessRw,
  t_mem_limit: memoryLimit,
  t_dirty: dirty,
  t_dmabuf_get: dmabufGet,
  t_dmabuf_revoke: dmabufRevoke,
  t_raw: anyCommand,
};
