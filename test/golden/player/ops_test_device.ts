// SPDX-License-Identifier: Apache-2.0
/** Commands of the test driver about mock devices: attachment, PASIDs, faults, caches. */
import * as abi from '../../../src/abi/iommufd_test.ts';
import type { Op } from './ops.ts';
import type { Player } from './player.ts';
import { testCommand } from './test_command.ts';

function mock(player: Player): void {
  const { args } = player;
  const withFlags = args.has('dflags');
  const request = testCommand(
    player,
    withFlags ? abi.IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS : abi.IOMMU_TEST_OP_MOCK_DOMAIN,
  );
  request.cmd.id = args.u32('pt');
  if (withFlags) request.cmd.u.mock_domain_flags.dev_flags = args.u32('dflags');
  if (!player.call(abi.IOMMU_TEST_CMD, request) || !player.pointerIsGood) return;
  const { out_stdev_id: stdev, out_hwpt_id: hwpt, out_idev_id: idev } = request.cmd.u.mock_domain;
  player.output('stdev', stdev);
  player.output('hwpt', hwpt);
  player.output('idev', idev);
  player.print(` stdev=${stdev} hwpt=${hwpt} idev=${idev}`);
}

function printHwpt(player: Player, hwpt: number): void {
  player.output('hwpt', hwpt);
  player.print(` hwpt=${hwpt}`);
}

function replace(player: Player): void {
  const request = testCommand(player, abi.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE);
  request.cmd.id = player.args.u32('stdev');
  request.cmd.u.mock_domain_replace.pt_id = player.args.u32('pt');
  if (player.call(abi.IOMMU_TEST_CMD, request) && player.pointerIsGood)
    printHwpt(player, request.cmd.u.mock_domain_replace.pt_id);
}

function checkIotlb(player: Player): void {
  const { args } = player;
  const request = testCommand(player, abi.IOMMU_TEST_OP_MD_CHECK_IOTLB);
  request.cmd.id = args.u32('hwpt');
  request.cmd.u.check_iotlb.id = args.u32('idx');
  request.cmd.u.check_iotlb.iotlb = args.u32('val', abi.IOMMU_TEST_IOTLB_DEFAULT);
  player.call(abi.IOMMU_TEST_CMD, request);
}

function checkCache(player: Player): void {
  const { args } = player;
  const request = testCommand(player, abi.IOMMU_TEST_OP_DEV_CHECK_CACHE);
  request.cmd.id = args.u32('dev');
  request.cmd.u.check_dev_cache.id = args.u32('idx');
  request.cmd.u.check_dev_cache.cache = args.u32('val', abi.IOMMU_TEST_DEV_CACHE_DEFAULT);
  player.call(abi.IOMMU_TEST_CMD, request);
}

function pageFault(player: Player): void {
  const { args } = player;
  const request = testCommand(player, abi.IOMMU_TEST_OP_TRIGGER_IOPF);
  const { trigger_iopf: arg } = request.cmd.u;
  arg.dev_id = args.u32('dev');
  arg.pasid = args.u32('pasid');
  arg.grpid = args.u32('grp');
  arg.perm = args.u32('perm');
  arg.addr = args.u64('addr');
  player.call(abi.IOMMU_TEST_CMD, request);
}

function virtualEvent(player: Player): void {
  const request = testCommand(player, abi.IOMMU_TEST_OP_TRIGGER_VEVENT);
  request.cmd.u.trigger_vevent.dev_id = player.args.u32('dev');
  player.call(abi.IOMMU_TEST_CMD, request);
}

function pasidAttach(player: Player): void {
  const { args, pasids, contextIndex } = player;
  const request = testCommand(player, abi.IOMMU_TEST_OP_PASID_ATTACH);
  const stdev = args.u32('stdev');
  const pasid = args.u32('pasid');
  request.cmd.id = stdev;
  request.cmd.u.pasid_attach.pasid = pasid;
  request.cmd.u.pasid_attach.pt_id = args.u32('pt');
  if (!player.call(abi.IOMMU_TEST_CMD, request)) return;
  pasids.add(contextIndex, stdev, pasid);
  if (player.pointerIsGood) printHwpt(player, request.cmd.u.pasid_attach.pt_id);
}

function pasidReplace(player: Player): void {
  const { args } = player;
  const request = testCommand(player, abi.IOMMU_TEST_OP_PASID_REPLACE);
  request.cmd.id = args.u32('stdev');
  request.cmd.u.pasid_replace.pasid = args.u32('pasid');
  request.cmd.u.pasid_replace.pt_id = args.u32('pt');
  if (player.call(abi.IOMMU_TEST_CMD, request) && player.pointerIsGood)
    printHwpt(player, request.cmd.u.pasid_replace.pt_id);
}

function pasidDetach(player: Player): void {
  const { args, pasids, contextIndex } = player;
  const request = testCommand(player, abi.IOMMU_TEST_OP_PASID_DETACH);
  const stdev = args.u32('stdev');
  const pasid = args.u32('pasid');
  request.cmd.id = stdev;
  request.cmd.u.pasid_detach.pasid = pasid;
  if (player.call(abi.IOMMU_TEST_CMD, request)) pasids.remove(contextIndex, stdev, pasid);
}

function pasidCheck(player: Player): void {
  const { args } = player;
  const request = testCommand(player, abi.IOMMU_TEST_OP_PASID_CHECK_HWPT);
  request.cmd.id = args.u32('stdev');
  request.cmd.u.pasid_check.pasid = args.u32('pasid');
  request.cmd.u.pasid_check.hwpt_id = args.u32('hwpt');
  player.call(abi.IOMMU_TEST_CMD, request);
}

export const testDeviceOps: Readonly<Record<string, Op>> = {
  t_mock: mock,
  t_replace: replace,
  t_check_iotlb: checkIotlb,
  t_check_cache: checkCache,
  t_iopf: pageFault,
  t_vevent: virtualEvent,
  t_pasid_attach: pasidAttach,
  t_pasid_replace: pasidReplace,
  t_pasid_detach: pasidDetach,
  t_pasid_check: pasidCheck,
};
