// SPDX-License-Identifier: Apache-2.0
/** The container interface of VFIO. */
import * as vfio from '../../../src/abi/vfio.ts';
import { fnv, hex8 } from './bytes.ts';
import { ARENA, ARENA_RO, Place } from './client.ts';
import type { Op } from './ops.ts';
import type { Player } from './player.ts';

const PAGE = 4096;
const INFO = vfio.vfio_iommu_type1_info;
const RANGES = vfio.vfio_iommu_type1_info_cap_iova_range;

const plain =
  (cmd: number, key?: string): Op =>
  (player) => {
    player.head(player.ioctl(cmd, key ? player.args.u64(key) : 0n));
  };

function info(player: Player): void {
  const { args, client } = player;
  const { scratch } = client;
  const argsz = args.u32('argsz', 512);
  const view = new DataView(scratch.buffer, scratch.byteOffset);
  scratch.fill(0, 0, PAGE);
  if (argsz < PAGE) scratch.fill(0x5a, argsz, argsz + 256);
  const answer = INFO.on(view);
  answer.argsz = argsz;
  const value = player.ioctl(vfio.VFIO_IOMMU_GET_INFO, args.pointer('dptr', Place.SC));
  if (player.head(value) && !args.has('dptr')) {
    const sizes = argsz >= 16 ? answer.iova_pgsizes : 0n;
    const offset = argsz >= INFO.size ? answer.cap_offset : 0;
    player.print(` argsz=${answer.argsz} flags=${answer.flags.toString(16)}`);
    player.print(` pgsz=${sizes.toString(16)} cap=${offset}`);
    printCapabilities(player, view, offset);
    player.print(` h=${hex8(fnv(scratch.subarray(0, PAGE)))}`);
  }
  scratch.fill(0, 0, PAGE + 256);
}

const MOST_CAPABILITIES = 8;
const MOST_RANGES = 16;
const LAST_OFFSET = 3800;

function printCapabilities(player: Player, view: DataView, first: number): void {
  let offset = first;
  for (let n = 0; offset && offset < LAST_OFFSET && n < MOST_CAPABILITIES; n++) {
    const head = vfio.vfio_info_cap_header.on(view, offset);
    player.print(` cap[${offset}]={id=${head.id} v=${head.version} next=${head.next}`);
    if (head.id === vfio.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE) {
      const { nr_iovas: count } = RANGES.on(view, offset);
      player.print(` n=${count}`);
      for (let i = 0; i < count && i < MOST_RANGES; i++) {
        const at = offset + RANGES.size + i * vfio.vfio_iova_range.size;
        const { start, end } = vfio.vfio_iova_range.on(view, at);
        player.print(` ${start.toString(16)}-${end.toString(16)}`);
      }
    }
    if (head.id === vfio.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL)
      player.print(` avail=${vfio.vfio_iommu_type1_info_dma_avail.on(view, offset).avail}`);
    player.print('}');
    offset = head.next;
  }
}

/** A structure at the start of the arena, the rest of whose first page is 0. */
function inArena<T>({ client }: Player, type: { on(view: DataView): T }): T {
  client.arena.fill(0, 0, PAGE);
  return type.on(new DataView(client.arena.buffer, client.arena.byteOffset));
}

function map(player: Player): void {
  const { args } = player;
  const cmd = inArena(player, vfio.vfio_iommu_type1_dma_map);
  cmd.argsz = args.u32('argsz', vfio.vfio_iommu_type1_dma_map.size);
  cmd.flags = args.u32('flags', 3);
  cmd.vaddr = args.u64('va');
  cmd.iova = args.u64('iova');
  cmd.size = args.u64('len');
  const value = player.ioctl(vfio.VFIO_IOMMU_MAP_DMA, args.pointer('dptr', ARENA));
  if (player.head(value)) player.output('iova', args.u64('iova'));
}

function unmap(player: Player): void {
  const { args } = player;
  const cmd = inArena(player, vfio.vfio_iommu_type1_dma_unmap);
  cmd.argsz = args.u32('argsz', vfio.vfio_iommu_type1_dma_unmap.size);
  cmd.flags = args.u32('flags');
  cmd.iova = args.u64('iova');
  cmd.size = args.u64('len');
  const address = args.text('ptr') === 'ro' ? ARENA_RO : args.pointer('dptr', ARENA);
  player.head(player.ioctl(vfio.VFIO_IOMMU_UNMAP_DMA, address));
  player.print(` size=${cmd.size.toString(16)}`);
}

function dirtyPages(player: Player): void {
  const cmd = inArena(player, vfio.vfio_iommu_type1_dirty_bitmap);
  cmd.argsz = vfio.vfio_iommu_type1_dirty_bitmap.size;
  cmd.flags = player.args.u32('flags', 1);
  player.head(player.ioctl(vfio.VFIO_IOMMU_DIRTY_PAGES, ARENA));
}

export const vfioOps: Readonly<Record<string, Op>> = {
  v_api: plain(vfio.VFIO_GET_API_VERSION),
  v_check: plain(vfio.VFIO_CHECK_EXTENSION, 'ext'),
  v_set: plain(vfio.VFIO_SET_IOMMU, 'type'),
  v_info: info,
  v_map: map,
  v_unmap: unmap,
  v_dirty: dirtyPages,
};
