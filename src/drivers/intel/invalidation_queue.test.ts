// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Errno } from '../../base/errno.ts';
import type { Batch } from './batch.ts';
import { allContexts, contextOfDevice, iotlbOfDomain } from './descriptors.ts';
import { FakeRig } from './fake_rig.ts';
import { ECAP_LEGACY } from './fake_vtd.ts';

const drains = { reads: false, writes: false };

/** A batch that forgets the domains given. */
function batchOf(rig: FakeRig, ...dids: number[]): Batch {
  const batch = rig.unit.takeBatch();
  for (const did of dids) iotlbOfDomain(batch.next(), did, drains);
  return batch;
}

describe.each([
  ['wide', {}],
  ['narrow', { ecap: ECAP_LEGACY }],
])('a queue of %s descriptors', (_what, options) => {
  it('goes round its end, and takes what fits at once', () => {
    const rig = new FakeRig(options);
    for (let round = 0; round < 40; round++) {
      const dids = Array.from({ length: 17 }, (_, i) => round + i);
      const asked = rig.vtd.during(() => {
        expect(rig.unit.submit(batchOf(rig, ...dids), false)).toBe(0);
      });
      expect(asked).toEqual(dids.map((did) => `iotlb ${did}`));
      expect(rig.vtd.submissions).toEqual([17]);
    }
  });

  it('is -EINVAL for a descriptor that the hardware does not take, and goes on', () => {
    const rig = new FakeRig(options);
    rig.vtd.refusesNext = true;
    const asked = rig.vtd.during(() => {
      expect(rig.unit.submit(batchOf(rig, 5, 6), false)).toBe(-Errno.EINVAL);
      expect(rig.unit.submit(batchOf(rig, 7), false)).toBe(0);
    });
    // What came behind it is done; the refused one is made a wait.
    expect(asked).toEqual(['iotlb 6', 'iotlb 7']);
    expect(rig.vtd.mmio.read32(0x34)).toBe(0);
  });

  it('is -ETIMEDOUT where a device or the hardware does not answer', () => {
    const rig = new FakeRig(options);
    rig.vtd.timesOutNext = true;
    expect(rig.unit.submit(batchOf(rig, 5), false)).toBe(-Errno.ETIMEDOUT);
    expect(rig.vtd.mmio.read32(0x34)).toBe(0);
    expect(rig.unit.submit(batchOf(rig, 5), false)).toBe(0);
    rig.vtd.isDead = true;
    expect(rig.unit.submit(batchOf(rig, 5), false)).toBe(-Errno.ETIMEDOUT);
  });

  it('is not disturbed by an answer of a device that nobody waits for', () => {
    const rig = new FakeRig(options);
    rig.vtd.strayAnswer = true;
    expect(rig.unit.submit(batchOf(rig, 5), false)).toBe(0);
    expect(rig.vtd.mmio.read32(0x34)).toBe(0);
  });

  it('tries again what must succeed, and says where it can not', () => {
    const rig = new FakeRig(options);
    rig.faults.plan({ nth: 1, kinds: ['command'] });
    expect(rig.unit.submit(batchOf(rig, 5), true)).toBe(0);
    rig.faults.clear();
    expect(rig.core.warnings).toEqual([]);
    rig.vtd.isDead = true;
    expect(rig.unit.submit(batchOf(rig, 5), true)).toBe(-Errno.ETIMEDOUT);
    expect(rig.core.warnings).toHaveLength(1);
  });

  it('serves several at once: each waits for its own, also the second time round', () => {
    const rig = new FakeRig(options);
    for (let i = 0; i < 40; i++) rig.unit.submit(batchOf(rig, ...Array(16).fill(1)), false);
    const results: number[] = [];
    rig.vtd.holds = true;
    const tasks = [5, 6, 7].map((did) =>
      rig.sim.spawn(`user ${did}`, function* user() {
        yield 'start';
        results.push(rig.unit.submit(batchOf(rig, did), false));
      }),
    );
    rig.sim.spawn('hardware', function* hardware() {
      for (let i = 0; i < 10; i++) yield 'nothing';
      expect(results).toEqual([]);
      rig.vtd.release();
    });
    rig.sim.join(tasks);
    expect(results).toEqual([0, 0, 0]);
    expect(rig.vtd.asked.slice(-3).toSorted()).toEqual(['iotlb 5', 'iotlb 6', 'iotlb 7']);
  });

  it('waits for room where more is asked than it holds', () => {
    const rig = new FakeRig(options);
    let done = 0;
    rig.vtd.holds = true;
    const tasks = Array.from({ length: 20 }, (_, did) =>
      rig.sim.spawn(`user ${did}`, function* user() {
        yield 'start';
        if (rig.unit.submit(batchOf(rig, ...Array(16).fill(did)), false) === 0) done++;
      }),
    );
    rig.sim.spawn(
      'hardware',
      function* hardware() {
        for (;;) {
          for (let i = 0; i < 50; i++) yield 'nothing';
          rig.vtd.release();
          rig.vtd.holds = true;
        }
      },
      { daemon: true },
    );
    rig.vtd.asked.length = 0;
    rig.sim.join(tasks);
    expect(done).toBe(20);
    // Nothing was written over before it was done.
    const asked = new Map<string, number>();
    for (const one of rig.vtd.asked) asked.set(one, (asked.get(one) ?? 0) + 1);
    expect([...asked.values()]).toEqual(Array(20).fill(16));
  });

  it('tells only the one whose descriptor was refused', () => {
    for (const order of [
      [5, 6],
      [6, 5],
    ]) {
      const rig = new FakeRig(options);
      const results = new Map<number, number>();
      rig.vtd.holds = true;
      const tasks = order.map((did) =>
        rig.sim.spawn(`user ${did}`, function* user() {
          yield 'start';
          results.set(did, rig.unit.submit(batchOf(rig, did), false));
        }),
      );
      rig.sim.spawn('hardware', function* hardware() {
        for (let i = 0; i < 10; i++) yield 'nothing';
        rig.vtd.refusesNext = true;
        rig.vtd.release();
      });
      rig.sim.join(tasks);
      // The first in the queue.
      expect(results.get(order[0] ?? 0)).toBe(-Errno.EINVAL);
      expect(results.get(order[1] ?? 0)).toBe(0);
    }
  });

  it('that a device did not answer ends for all that wait', () => {
    const rig = new FakeRig(options);
    const results: number[] = [];
    rig.vtd.holds = true;
    const tasks = [5, 6].map((did) =>
      rig.sim.spawn(`user ${did}`, function* user() {
        yield 'start';
        results.push(rig.unit.submit(batchOf(rig, did), false));
      }),
    );
    rig.sim.spawn('hardware', function* hardware() {
      for (let i = 0; i < 10; i++) yield 'nothing';
      rig.vtd.timesOutNext = true;
      rig.vtd.release();
    });
    rig.sim.join(tasks);
    expect(results).toEqual([-Errno.ETIMEDOUT, -Errno.ETIMEDOUT]);
  });
});

describe('descriptors', () => {
  it('fill all of their words', () => {
    const words = new Uint32Array(8).fill(0xffff_ffff);
    allContexts(words);
    expect([...words]).toEqual([0x11, 0, 0, 0, 0, 0, 0, 0]);
    contextOfDevice(words, 0x1234, 0xabcd);
    expect([...words.slice(0, 4)]).toEqual([0x1234_0031, 0xabcd, 0, 0]);
  });
});
