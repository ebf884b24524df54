// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Iommufd } from '../src/iommufd/iommufd.ts';
import { heldText, objectsHeldBy } from './held_objects.ts';

const ioases = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ type: 'IOAS', id: i + 1 }));

describe('objects that a file still holds', () => {
  it('are named with their ids', () => {
    expect(heldText([])).toBe('');
    expect(heldText(ioases(2))).toBe('IOAS 1, IOAS 2');
  });

  it('are counted where they are many', () => {
    expect(heldText(ioases(8))).toMatch(/IOAS 8$/);
    expect(heldText(ioases(12))).toMatch(/IOAS 8, 4 more$/);
  });

  it('are none in a /dev/iommu that was only opened', () => {
    expect(objectsHeldBy(new Iommufd().open())).toBe('');
  });
});
