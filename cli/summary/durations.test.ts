// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Durations } from './durations.ts';

const of = (...micros: number[]) => {
  const durations = new Durations();
  for (const value of micros) durations.add(value);
  return durations;
};

describe('durations', () => {
  it('count and add up exactly', () => {
    const durations = of(1.5, 2.5, 96);
    expect(durations.count).toBe(3);
    expect(durations.total).toBe(100);
  });

  it.each([0.01, 0.7, 1, 7.7, 8, 1234.5, 3.2e9])('have a median within 1.2 %% of %d', (value) => {
    const { median } = of(0.005, value, 4e9);
    expect(Math.abs(median / value - 1)).toBeLessThan(0.012);
  });

  it('take the lower of two middle values', () => {
    expect(of(1, 1, 100, 100).median).toBeCloseTo(1, 1);
  });

  it('without a member have a median of 0', () => expect(of().median).toBe(0));

  it('beyond the buckets count in the last one', () => {
    expect(of(0, -1, 1e12).count).toBe(3);
    expect(of(0).median).toBeLessThan(0.005);
    expect(of(1e12).median).toBeGreaterThan(4e9);
  });
});
