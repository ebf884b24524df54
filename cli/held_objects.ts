// SPDX-License-Identifier: Apache-2.0
import { Iommufd } from '../src/iommufd/iommufd.ts';
import type { DeviceFile } from '../src/kernel/file.ts';

/** As many objects as are named; the rest are counted. */
const most = 8;

/** An object as summaries need it. */
export interface Held {
  readonly type: string;
  readonly id: number;
}

/** `IOAS 1, HWPT_PAGING 3`, in order of ids; empty where there is nothing. */
export function heldText(objects: Iterable<Held>): string {
  const names = [...objects].map(({ type, id }) => `${type} ${id}`);
  const rest = names.length - most;
  if (rest > 0) names.splice(most, rest, `${rest} more`);
  return names.join(', ');
}

/** The objects that an open `/dev/iommu` still holds; none for files of other kinds. */
export function objectsHeldBy(file: DeviceFile): string {
  return Iommufd.isIommufd(file) ? heldText(file.context.objects) : '';
}
