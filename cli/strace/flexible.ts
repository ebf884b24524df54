// SPDX-License-Identifier: Apache-2.0
import {
  VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_EVENTFD,
  vfio_irq_set,
} from '../../src/abi/vfio.ts';
import type { StructType } from '../../src/abi/struct.ts';

/**
 * What stands behind a structure as its flexible array: descriptors or truth values of VFIO_DEVICE_SET_IRQS by its flags, bytes of
 * any other. Undefined where it holds nothing. `bytes` may be a part of it; then the text ends in `...`.
 */
export function flexibleText(
  root: StructType<unknown>,
  structure: DataView,
  bytes: Uint8Array | undefined,
): string | undefined {
  if (bytes === undefined) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const list = (count: number, size: number, item: (offset: number) => number): string => {
    const there = Math.min(count, Math.floor(bytes.length / size));
    const items = Array.from({ length: there }, (_, i) => `${item(i * size)}`);
    return `[${[...items, ...(there < count ? ['...'] : [])].join(', ')}]`;
  };
  if (root.cName !== vfio_irq_set.cName) {
    return bytes.length === 0 ? undefined : list(bytes.length, 1, (at) => view.getUint8(at));
  }
  const flags = structure.getUint32(vfio_irq_set.offsetof('flags'), true);
  const count = structure.getUint32(vfio_irq_set.offsetof('count'), true);
  if (flags & VFIO_IRQ_SET_DATA_EVENTFD) return list(count, 4, (at) => view.getInt32(at, true));
  if (flags & VFIO_IRQ_SET_DATA_BOOL) return list(count, 1, (at) => view.getUint8(at));
  return undefined;
}
