// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { colourStyle, plainStyle, styleFor } from './style.ts';

describe('colours', () => {
  it('are for terminals only', () => {
    expect(styleFor(true, { TERM: 'xterm' })).toBe(colourStyle);
    expect(styleFor(false, { TERM: 'xterm' })).toBe(plainStyle);
  });

  it('are refused by NO_COLOR, unless it is empty, and by a dumb terminal', () => {
    expect(styleFor(true, { NO_COLOR: '1' })).toBe(plainStyle);
    expect(styleFor(true, { NO_COLOR: '' })).toBe(colourStyle);
    expect(styleFor(true, { TERM: 'dumb' })).toBe(plainStyle);
  });
});
