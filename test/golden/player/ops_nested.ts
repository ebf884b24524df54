// SPDX-License-Identifier: Apache-2.0
/** Nested tables and what a virtual IOMMU needs, fault queues included. */
import * as uapi from '../../../src/abi/iommufd.ts';
import {
  IOMMU_HW_QUEUE_TYPE_SELFTEST,
  IOMMU_HWPT_INVALIDATE_DATA_SELFTEST,
  IOMMU_VEVENTQ_TYPE_SELFTEST,
  iommu_viommu_selftest,
  IOMMU_VIOMMU_TYPE_SELFTEST,
} from '../../../src/abi/iommufd_test.ts';
import { Place } from './client.ts';
import { requestOf } from './ioctl.ts';
import type { Op } from './ops.ts';
import type { Player } from './player.ts';

/** Words that an invalidation entry can be long. */
const MOST_WORDS = 16;
const ENTRIES_BYTES = 8192;
const VIOMMU_BYTES = 256;

function invalidate(player: Player): void {
  const { args, client } = player;
  const { scratch } = client;
  const entryLength = args.u32('elen', 8);
  const words = Math.floor(entryLength / 4) || 1;
  const stride = Math.min(words, MOST_WORDS);
  const entries = args.tuples('e', 3);
  const request = requestOf(uapi.iommu_hwpt_invalidate);
  const { cmd } = request;
  cmd.hwpt_id = args.u32('hwpt');
  cmd.data_uptr = args.pointer('dptr', Place.SC);
  cmd.data_type = args.u32('dtype', IOMMU_HWPT_INVALIDATE_DATA_SELFTEST);
  cmd.entry_len = entryLength;
  cmd.entry_num = args.u32('num', entries.length);
  cmd.__reserved = args.u32('rsvd');
  scratch.fill(0, 0, ENTRIES_BYTES);
  const view = new DataView(scratch.buffer, scratch.byteOffset);
  entries.forEach((entry, i) => {
    entry.slice(0, stride).forEach((word, j) => {
      view.setUint32(4 * (i * stride + j), Number(BigInt.asUintN(32, word)), true);
    });
  });
  player.call(uapi.IOMMU_HWPT_INVALIDATE, request);
  if (player.pointerIsGood) player.print(` done=${cmd.entry_num}`);
  scratch.fill(0, 0, ENTRIES_BYTES);
}

function faultAlloc(player: Player): void {
  const request = requestOf(uapi.iommu_fault_alloc);
  const { cmd } = request;
  cmd.flags = player.args.u32('flags');
  if (!player.call(uapi.IOMMU_FAULT_QUEUE_ALLOC, request) || !player.pointerIsGood) return;
  player.output('fault', cmd.out_fault_id);
  player.output('fd', cmd.out_fault_fd);
  // A local process does not keep FD_CLOEXEC; Linux sets it here always.
  player.print(` fault=${cmd.out_fault_id} fd=ok cloexec=1`);
}

function viommuAlloc(player: Player): void {
  const { args, client } = player;
  const { scratch } = client;
  const length = args.u32('dlen');
  const request = requestOf(uapi.iommu_viommu_alloc);
  const { cmd } = request;
  cmd.flags = args.u32('flags');
  cmd.type = args.u32('type', IOMMU_VIOMMU_TYPE_SELFTEST);
  cmd.dev_id = args.u32('dev');
  cmd.hwpt_id = args.u32('hwpt');
  cmd.data_len = length;
  cmd.__reserved = args.u32('rsvd');
  cmd.data_uptr = args.pointer('dptr', length ? Place.SC : 0n);
  scratch.fill(0, 0, VIOMMU_BYTES);
  const data = iommu_viommu_selftest.on(new DataView(scratch.buffer, scratch.byteOffset));
  data.in_data = args.u32('in');
  if (args.u64('dtail')) scratch[args.u32('dlen', 1) - 1] = 1;
  if (player.call(uapi.IOMMU_VIOMMU_ALLOC, request) && player.pointerIsGood) {
    player.output('viommu', cmd.out_viommu_id);
    player.print(` viommu=${cmd.out_viommu_id}`);
    if (cmd.data_len && !args.has('dptr')) {
      const { out_data: out, out_mmap_offset: offset, out_mmap_length: bytes } = data;
      player.output('moff', offset);
      player.output('mlen', bytes);
      player.print(
        ` out=${out.toString(16)} moff=${offset.toString(16)} mlen=${bytes.toString(16)}`,
      );
    }
  }
  scratch.fill(0, 0, VIOMMU_BYTES);
}

function vdeviceAlloc(player: Player): void {
  const { args } = player;
  const request = requestOf(uapi.iommu_vdevice_alloc);
  const { cmd } = request;
  cmd.viommu_id = args.u32('viommu');
  cmd.dev_id = args.u32('dev');
  cmd.virt_id = args.u64('virt');
  if (!player.call(uapi.IOMMU_VDEVICE_ALLOC, request) || !player.pointerIsGood) return;
  player.output('vdev', cmd.out_vdevice_id);
  player.print(` vdev=${cmd.out_vdevice_id}`);
}

function veventqAlloc(player: Player): void {
  const { args } = player;
  const request = requestOf(uapi.iommu_veventq_alloc);
  const { cmd } = request;
  cmd.flags = args.u32('flags');
  cmd.viommu_id = args.u32('viommu');
  cmd.type = args.u32('type', IOMMU_VEVENTQ_TYPE_SELFTEST);
  cmd.veventq_depth = args.u32('depth', 2);
  cmd.__reserved = args.u32('rsvd');
  if (!player.call(uapi.IOMMU_VEVENTQ_ALLOC, request) || !player.pointerIsGood) return;
  player.output('veventq', cmd.out_veventq_id);
  player.output('fd', cmd.out_veventq_fd);
  player.print(` veventq=${cmd.out_veventq_id} fd=ok`);
}

function hwQueueAlloc(player: Player): void {
  const { args } = player;
  const request = requestOf(uapi.iommu_hw_queue_alloc);
  const { cmd } = request;
  cmd.flags = args.u32('flags');
  cmd.viommu_id = args.u32('viommu');
  cmd.type = args.u32('type', IOMMU_HW_QUEUE_TYPE_SELFTEST);
  cmd.index = args.u32('index');
  cmd.nesting_parent_iova = args.u64('iova');
  cmd.length = args.u64('len');
  if (!player.call(uapi.IOMMU_HW_QUEUE_ALLOC, request) || !player.pointerIsGood) return;
  player.output('hwq', cmd.out_hw_queue_id);
  player.print(` hwq=${cmd.out_hw_queue_id}`);
}

export const nestedOps: Readonly<Record<string, Op>> = {
  invalidate,
  fault_alloc: faultAlloc,
  viommu_alloc: viommuAlloc,
  vdevice_alloc: vdeviceAlloc,
  veventq_alloc: veventqAlloc,
  hw_queue_alloc: hwQueueAlloc,
};
