// SPDX-License-Identifier: Apache-2.0
/** Address spaces and options. */
import * as uapi from '../../../src/abi/iommufd.ts';
import { Errno } from '../../../src/base/errno.ts';
import { Place } from './client.ts';
import { requestOf } from './ioctl.ts';
import type { Op } from './ops.ts';
import type { Player } from './player.ts';

const FILL = 0x5a;
const PAGE = 4096;
const RANGE = uapi.iommu_iova_range.size;
/** A number that no descriptor has, as exec.c has it. */
const NO_SUCH_FD = 12345;

function ioasAlloc(player: Player): void {
  const { args } = player;
  const request = requestOf(uapi.iommu_ioas_alloc);
  const { cmd } = request;
  cmd.flags = args.u32('flags');
  cmd.out_ioas_id = args.u32('junk');
  if (!player.call(uapi.IOMMU_IOAS_ALLOC, request) || !player.pointerIsGood) return;
  player.output('ioas', cmd.out_ioas_id);
  player.print(` ioas=${cmd.out_ioas_id}`);
}

function ioasRanges(player: Player): void {
  const { args, client } = player;
  const { scratch } = client;
  const request = requestOf(uapi.iommu_ioas_iova_ranges);
  const { cmd } = request;
  cmd.ioas_id = args.u32('ioas');
  const room = args.u32('n', 16);
  cmd.num_iovas = room;
  cmd.__reserved = args.u32('rsvd');
  cmd.allowed_iovas = args.pointer('arr', Place.SC);
  scratch.fill(FILL, 0, PAGE);
  const { value, touched, outside } = player.request(uapi.IOMMU_IOAS_IOVA_RANGES, request);
  player.head(value, touched, outside);
  const own = !args.has('arr');
  if ((value >= 0 || value === -Errno.EMSGSIZE) && player.pointerIsGood) {
    const count = own ? Math.min(cmd.num_iovas, room, 16) : 0;
    const view = new DataView(scratch.buffer, scratch.byteOffset);
    const ranges = Array.from({ length: count }, (_, i) => {
      const { start, last } = uapi.iommu_iova_range.on(view, i * RANGE);
      return `${start.toString(16)}-${last.toString(16)}`;
    });
    player.print(` num=${cmd.num_iovas} align=${cmd.out_iova_alignment} r=${ranges.join(',')}`);
  }
  const written = Math.min(room, cmd.num_iovas) * RANGE;
  if (own && scratch.subarray(0, PAGE).some((byte, i) => byte !== FILL && i >= written))
    player.print(' arr_oob');
  scratch.fill(0, 0, PAGE);
}

function ioasAllow(player: Player): void {
  const { args, client } = player;
  const ranges = args.tuples('r', 2);
  const request = requestOf(uapi.iommu_ioas_allow_iovas);
  const { cmd } = request;
  cmd.ioas_id = args.u32('ioas');
  cmd.num_iovas = args.u32('n', ranges.length);
  cmd.__reserved = args.u32('rsvd');
  cmd.allowed_iovas = args.pointer('arr', Place.SC);
  const view = new DataView(client.scratch.buffer, client.scratch.byteOffset);
  ranges.forEach(([start = 0n, last = 0n], i) => {
    uapi.iommu_iova_range.write(view, i * RANGE, { start, last });
  });
  player.call(uapi.IOMMU_IOAS_ALLOW_IOVAS, request);
  client.scratch.fill(0, 0, 1024);
}

function printIova(player: Player, iova: bigint): void {
  player.output('iova', iova);
  player.print(` iova=${iova.toString(16)}`);
}

function ioasMap(player: Player): void {
  const { args } = player;
  const request = requestOf(uapi.iommu_ioas_map);
  const { cmd } = request;
  cmd.flags = args.u32('flags');
  cmd.ioas_id = args.u32('ioas');
  cmd.__reserved = args.u32('rsvd');
  cmd.user_va = args.u64('va');
  cmd.length = args.u64('len');
  cmd.iova = args.u64('iova');
  if (player.call(uapi.IOMMU_IOAS_MAP, request) && player.pointerIsGood)
    printIova(player, cmd.iova);
}

function fileDescriptor(player: Player): number {
  const name = player.args.text('file');
  if (name === undefined || name === 'bad') return -1;
  if (name === 'io') return player.context.fd;
  if (name.startsWith('$')) return Number(BigInt.asIntN(32, player.args.evaluate(name, true)));
  return player.client.fdOf(name) ?? NO_SUCH_FD;
}

function ioasMapFile(player: Player): void {
  const { args } = player;
  const request = requestOf(uapi.iommu_ioas_map_file);
  const { cmd } = request;
  cmd.flags = args.u32('flags');
  cmd.ioas_id = args.u32('ioas');
  cmd.fd = fileDescriptor(player);
  cmd.start = args.u64('start');
  cmd.length = args.u64('len');
  cmd.iova = args.u64('iova');
  if (player.call(uapi.IOMMU_IOAS_MAP_FILE, request) && player.pointerIsGood)
    printIova(player, cmd.iova);
}

function ioasCopy(player: Player): void {
  const { args } = player;
  const request = requestOf(uapi.iommu_ioas_copy);
  const { cmd } = request;
  cmd.flags = args.u32('flags');
  cmd.dst_ioas_id = args.u32('dst');
  cmd.src_ioas_id = args.u32('src');
  cmd.length = args.u64('len');
  cmd.dst_iova = args.u64('diova');
  cmd.src_iova = args.u64('siova');
  if (player.call(uapi.IOMMU_IOAS_COPY, request) && player.pointerIsGood)
    printIova(player, cmd.dst_iova);
}

function ioasUnmap(player: Player): void {
  const { args } = player;
  const request = requestOf(uapi.iommu_ioas_unmap);
  const { cmd } = request;
  cmd.ioas_id = args.u32('ioas');
  cmd.iova = args.u64('iova');
  cmd.length = args.u64('len');
  if (player.call(uapi.IOMMU_IOAS_UNMAP, request) && player.pointerIsGood)
    player.print(` len=${cmd.length.toString(16)}`);
}

function option(player: Player): void {
  const { args } = player;
  const request = requestOf(uapi.iommu_option);
  const { cmd } = request;
  cmd.option_id = args.u32('opt');
  cmd.op = args.u32('op');
  cmd.__reserved = args.u32('rsvd');
  cmd.object_id = args.u32('obj');
  cmd.val64 = args.u64('val');
  if (player.call(uapi.IOMMU_OPTION, request) && player.pointerIsGood)
    player.print(` val=${cmd.val64}`);
}

function vfioIoas(player: Player): void {
  const { args } = player;
  const request = requestOf(uapi.iommu_vfio_ioas);
  const { cmd } = request;
  cmd.ioas_id = args.u32('ioas');
  cmd.op = args.u32('op');
  cmd.__reserved = args.u32('rsvd');
  if (!player.call(uapi.IOMMU_VFIO_IOAS, request) || !player.pointerIsGood) return;
  if (cmd.op === uapi.IOMMU_VFIO_IOAS_GET) player.output('ioas', cmd.ioas_id);
  player.print(` ioas=${cmd.ioas_id}`);
}

function changeProcess(player: Player): void {
  const request = requestOf(uapi.iommu_ioas_change_process);
  request.cmd.__reserved = player.args.u32('rsvd');
  player.call(uapi.IOMMU_IOAS_CHANGE_PROCESS, request);
}

function destroy(player: Player): void {
  const request = requestOf(uapi.iommu_destroy);
  const id = player.args.u32('id');
  request.cmd.id = id;
  const detached = player.pasids.detachAll(player, player.contextIndex, id);
  player.call(uapi.IOMMU_DESTROY, request);
  if (detached) player.print(` autodetach=${detached}`);
}

export const ioasOps: Readonly<Record<string, Op>> = {
  destroy,
  ioas_alloc: ioasAlloc,
  ioas_ranges: ioasRanges,
  ioas_allow: ioasAllow,
  ioas_map: ioasMap,
  ioas_map_file: ioasMapFile,
  ioas_copy: ioasCopy,
  ioas_unmap: ioasUnmap,
  option,
  vfio_ioas: vfioIoas,
  change_process: changeProcess,
};
