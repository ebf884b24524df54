// SPDX-License-Identifier: Apache-2.0
import { Prot } from '../iommu/domain.ts';
import type { ResvRegion } from '../iommu/reserved.ts';
import { type ReservedDescription, reservedKinds } from './description.ts';

/** The reserved regions of a described device as IOMMU core has them. */
export const resvRegionsOf = (description: {
  readonly reserved?: readonly ReservedDescription[];
}): ResvRegion[] =>
  (description.reserved ?? []).map(({ start, last, kind }) => {
    return { start, last, prot: Prot.READ | Prot.WRITE, type: reservedKinds[kind] };
  });
