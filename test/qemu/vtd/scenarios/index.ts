// SPDX-License-Identifier: Apache-2.0
import type { Scenario } from '../scenario.ts';
import { invalidation } from './invalidation.ts';
import { queue } from './queue.ts';
import { refusals } from './refusals.ts';
import { translation } from './translation.ts';

export const scenarios: readonly Scenario[] = [
  ...translation,
  ...refusals,
  ...invalidation,
  ...queue,
];
