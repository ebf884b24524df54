// SPDX-License-Identifier: Apache-2.0
/** Hardware page tables, hardware information, dirty tracking. */
import * as uapi from '../../../src/abi/iommufd.ts';
import { IOMMU_TEST_IOTLB_DEFAULT, iommu_hwpt_selftest } from '../../../src/abi/iommufd_test.ts';
import { fnv, hex8 } from './bytes.ts';
import { Place } from './client.ts';
import { requestOf } from './ioctl.ts';
import type { Op } from './ops.ts';
import type { Player } from './player.ts';

const FILL = 0x5a;
/** The driver's structure, and words behind it that a driver without them must see as 0. */
const DATA_BYTES = iommu_hwpt_selftest.size + 24;
const INFO_BYTES = 256;
/** Where bitmaps are put in SC, and their size. */
const BITMAP = 65536;

function hwptAlloc(player: Player): void {
  const { args, client } = player;
  const { scratch } = client;
  const type = args.u32('dtype');
  const request = requestOf(uapi.iommu_hwpt_alloc);
  const { cmd } = request;
  cmd.flags = args.u32('flags');
  cmd.dev_id = args.u32('dev');
  cmd.pt_id = args.u32('pt');
  cmd.__reserved = args.u32('rsvd');
  cmd.data_type = type;
  cmd.data_len = args.u32('dlen', type ? iommu_hwpt_selftest.size : 0);
  cmd.data_uptr = args.pointer('dptr', type ? Place.SC : 0n);
  cmd.fault_id = args.u32('fault');
  cmd.__reserved2 = args.u32('rsvd2');
  scratch.fill(0, 0, DATA_BYTES);
  const view = new DataView(scratch.buffer, scratch.byteOffset);
  const data = iommu_hwpt_selftest.on(view);
  data.iotlb = args.u32('iotlb', IOMMU_TEST_IOTLB_DEFAULT);
  data.pagetable_type = args.u32('pgtbl');
  view.setUint32(iommu_hwpt_selftest.size, args.u32('dtail'), true);
  if (player.call(uapi.IOMMU_HWPT_ALLOC, request) && player.pointerIsGood) {
    player.output('hwpt', cmd.out_hwpt_id);
    player.print(` hwpt=${cmd.out_hwpt_id}`);
  }
  scratch.fill(0, 0, DATA_BYTES);
}

function hwInfo(player: Player): void {
  const { args, client } = player;
  const { scratch } = client;
  const request = requestOf(uapi.iommu_hw_info);
  const { cmd } = request;
  cmd.flags = args.u32('flags');
  cmd.dev_id = args.u32('dev');
  cmd.data_len = args.u32('dlen', 8);
  cmd.data_uptr = args.pointer('dptr', Place.SC);
  cmd.u.in_data_type = args.u32('dtype');
  const reserved = [0, 0, 0];
  reserved[Number(args.u64('rsvd_i') % 3n)] = args.u32('rsvd') & 0xff;
  cmd.__reserved = reserved;
  cmd.out_capabilities = args.u64('junk');
  scratch.fill(FILL, 0, INFO_BYTES);
  if (player.call(uapi.IOMMU_GET_HW_INFO, request) && player.pointerIsGood) {
    const caps = cmd.out_capabilities.toString(16);
    const type = cmd.u.out_data_type.toString(16);
    player.print(` type=${type} len=${cmd.data_len} pasid=${cmd.out_max_pasid_log2} caps=${caps}`);
    const view = new DataView(scratch.buffer, scratch.byteOffset);
    const words = [0, 4].map((at) => hex8(view.getUint32(at, true)));
    if (!args.has('dptr')) player.print(` data=${words.join(',')}`);
  }
  player.print(` bufh=${hex8(fnv(scratch.subarray(0, INFO_BYTES)))}`);
  scratch.fill(0, 0, INFO_BYTES);
}

function setDirty(player: Player): void {
  const { args } = player;
  const request = requestOf(uapi.iommu_hwpt_set_dirty_tracking);
  request.cmd.flags = args.u32('flags');
  request.cmd.hwpt_id = args.u32('hwpt');
  request.cmd.__reserved = args.u32('rsvd');
  player.call(uapi.IOMMU_HWPT_SET_DIRTY_TRACKING, request);
}

function getDirty(player: Player): void {
  const { args, client } = player;
  const bitmap = client.scratch.subarray(BITMAP, 2 * BITMAP);
  const request = requestOf(uapi.iommu_hwpt_get_dirty_bitmap);
  const { cmd } = request;
  cmd.hwpt_id = args.u32('hwpt');
  cmd.flags = args.u32('flags');
  cmd.__reserved = args.u32('rsvd');
  cmd.iova = args.u64('iova');
  cmd.length = args.u64('len');
  cmd.page_size = args.u64('pgsz', 4096);
  cmd.data = args.pointer('bptr', Place.SC + BigInt(BITMAP) + args.u64('boff'));
  bitmap.fill(0);
  player.call(uapi.IOMMU_HWPT_GET_DIRTY_BITMAP, request);
  if (!args.has('bptr')) printBits(player, bitmap);
  bitmap.fill(0);
}

const MOST_BITS_SHOWN = 6;

function printBits(player: Player, bitmap: Uint8Array): void {
  const shown: number[] = [];
  let count = 0;
  bitmap.forEach((byte, i) => {
    for (let rest = byte, bit = 0; rest; rest >>= 1, bit++) {
      if (!(rest & 1)) continue;
      count++;
      if (shown.length < MOST_BITS_SHOWN) shown.push(i * 8 + bit);
    }
  });
  player.print(` bits=${shown.join(',')} n=${count} h=${hex8(fnv(bitmap))}`);
}

export const hwptOps: Readonly<Record<string, Op>> = {
  hwpt_alloc: hwptAlloc,
  hw_info: hwInfo,
  set_dirty: setDirty,
  get_dirty: getDirty,
};
