// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { withCleanup } from './cleanup.ts';

describe('withCleanup', () => {
  it('undoes nothing when the body returns', () => {
    const log: string[] = [];
    expect(withCleanup((cleanup) => (cleanup.defer(() => log.push('undone')), 5))).toBe(5);
    expect(log).toEqual([]);
  });

  it('undoes in reverse order and throws the same error when the body throws', () => {
    const log: string[] = [];
    const error = new Error('no');
    const run = (): void =>
      withCleanup((cleanup) => {
        cleanup.defer(() => log.push('first'));
        cleanup.defer(() => log.push('second'));
        throw error;
      });
    expect(run).toThrow(error);
    expect(log).toEqual(['second', 'first']);
  });

  it('keeps what was committed', () => {
    const log: string[] = [];
    const run = (): void =>
      withCleanup((cleanup) => {
        cleanup.defer(() => log.push('before'));
        cleanup.commit();
        cleanup.defer(() => log.push('after'));
        throw new Error('no');
      });
    expect(run).toThrow('no');
    expect(log).toEqual(['after']);
  });

  it('runs the other actions when one fails, and reports both errors', () => {
    const log: string[] = [];
    let caught: unknown;
    try {
      withCleanup((cleanup) => {
        cleanup.defer(() => log.push('first'));
        cleanup.defer(() => {
          throw new Error('undo broke');
        });
        throw new Error('body broke');
      });
    } catch (error) {
      caught = error;
    }
    expect(log).toEqual(['first']);
    expect(caught).toBeInstanceOf(AggregateError);
    expect(String(caught)).toMatch(/body broke.*undo broke/);
  });
});
