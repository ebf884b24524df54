// SPDX-License-Identifier: Apache-2.0
import { iommu_test_cmd } from '../../../src/abi/iommufd_test.ts';
import { requestOf, type Request } from './ioctl.ts';
import type { Player } from './player.ts';

type TestCommand = ReturnType<typeof iommu_test_cmd.on>;

/** A command of the test driver; its reserved fields can be set by every op. */
export function testCommand(player: Player, op: number): Request<TestCommand> {
  const request = requestOf(iommu_test_cmd);
  const { cmd } = request;
  cmd.size = request.bytes.length;
  cmd.op = op;
  cmd.__reserved = player.args.u32('rsvd');
  cmd.last = player.args.u32('last');
  return request;
}
