// SPDX-License-Identifier: Apache-2.0
import type { Player } from './player.ts';
import { eventOps } from './ops_events.ts';
import { hwptOps } from './ops_hwpt.ts';
import { ioasOps } from './ops_ioas.ts';
import { nestedOps } from './ops_nested.ts';
import { processOps } from './ops_process.ts';
import { testOps } from './ops_test.ts';
import { testDeviceOps } from './ops_test_device.ts';
import { vfioOps } from './ops_vfio.ts';

/** One op of a script: it makes its calls and prints its line. */
export type Op = (player: Player) => void;

/** Every op by its name in scripts. */
export const ops: ReadonlyMap<string, Op> = new Map(
  [ioasOps, hwptOps, nestedOps, testOps, testDeviceOps, vfioOps, eventOps, processOps].flatMap(
    (group) => Object.entries(group),
  ),
);
