// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { withCleanup } from '../base/cleanup.ts';
import type { FaultKind } from './faults.ts';
import { Faults, sweepFaults } from './faults.ts';

const KINDS: FaultKind[] = ['alloc', 'pin', 'alloc', 'command', 'alloc'];

describe('a plan', () => {
  it('fails the n-th point and only that', () => {
    const faults = new Faults({ nth: 3 });
    expect(KINDS.map((kind) => faults.point(kind))).toEqual([false, false, true, false, false]);
    expect([faults.passed, faults.injected]).toEqual([5, 'alloc']);
  });

  it('counts only its kinds', () => {
    const faults = new Faults({ nth: 2, kinds: ['pin', 'command'] });
    expect(KINDS.map((kind) => faults.point(kind)).indexOf(true)).toBe(3);
    expect(faults.passed).toBe(2);
  });

  it('that is absent or cleared fails nothing', () => {
    const faults = new Faults();
    expect(faults.point('alloc')).toBe(false);
    faults.plan({ nth: 1 });
    faults.clear();
    expect(faults.point('alloc')).toBe(false);
  });

  it('counts from 1', () => {
    expect(() => new Faults({ nth: 0 })).toThrow('fault points count from 1');
  });
});

describe('a sweep', () => {
  /** Takes three things one after another, giving back what it has when one fails, unless told to forget. */
  const operation = (faults: Faults, held: Set<string>, forget = false): boolean => {
    try {
      withCleanup((cleanup) => {
        for (const name of ['first', 'second', 'third']) {
          if (faults.point('alloc')) throw new Error('ENOMEM');
          held.add(name);
          if (!(forget && name === 'second')) cleanup.defer(() => held.delete(name));
        }
      });
      return true;
    } catch {
      return false;
    }
  };

  it('fails each point once and ends with a run that does all of its work', () => {
    const outcomes: boolean[] = [];
    const failed = sweepFaults((faults) => {
      const held = new Set<string>();
      outcomes.push(operation(faults, held));
      expect(held.size).toBe(outcomes.at(-1) ? 3 : 0);
    });
    expect([failed, outcomes]).toEqual([3, [false, false, false, true]]);
  });

  it('finds the undo that is missing, and says after which point', () => {
    const sweep = (): number =>
      sweepFaults((faults) => {
        const held = new Set<string>();
        if (!operation(faults, held, true) && held.size > 0) throw new Error('leaked');
      });
    expect(sweep).toThrow('with fault point 3 (alloc) failed: leaked');
  });

  it('plans on the faults of a world that exists, and leaves them clear', () => {
    const faults = new Faults();
    expect(sweepFaults((given) => expect(given).toBe(faults), { faults })).toBe(0);
    sweepFaults(() => faults.point('pin'), { faults, kinds: ['pin'] });
    expect(faults.point('pin')).toBe(false);
  });

  it('that does not end is stopped', () => {
    const endless = (faults: Faults, nth: number): void => {
      for (let i = 0; i < nth; i++) faults.point('alloc');
    };
    expect(() => sweepFaults(endless, { limit: 50 })).toThrow('50 fault points failed');
  });
});
