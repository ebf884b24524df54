// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { vfio_irq_set } from '../../src/abi/vfio.ts';
import { flexibleText } from './flexible.ts';

const [NONE, BOOL, EVENTFD, TRIGGER] = [1, 2, 4, 32];

const text = (flags: number, count: number, bytes: Uint8Array) => {
  // argsz, flags, index, start, count
  const words = Uint32Array.of(20 + bytes.length, flags | TRIGGER, 1, 0, count);
  return flexibleText(vfio_irq_set, new DataView(words.buffer), bytes);
};

describe('what follows VFIO_DEVICE_SET_IRQS', () => {
  it('is descriptors, of which -1 is none', () => {
    expect(text(EVENTFD, 2, new Uint8Array(Int32Array.of(7, -1).buffer))).toBe('[7, -1]');
  });

  it('is truth values', () => {
    expect(text(BOOL, 3, Uint8Array.of(1, 0, 1))).toBe('[1, 0, 1]');
  });

  it('is nothing where the flags say so', () => {
    expect(text(NONE, 2, Uint8Array.of(1, 0))).toBeUndefined();
  });

  it('is shown as far as it was recorded', () => {
    expect(text(EVENTFD, 3, new Uint8Array(Int32Array.of(7).buffer))).toBe('[7, ...]');
  });
});
