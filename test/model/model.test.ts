// SPDX-License-Identifier: Apache-2.0
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Errno } from '../../src/base/errno.ts';
import { MockPagingDomain } from '../../src/drivers/mock/mock_domain.ts';
import { DIRTY_NO_CLEAR } from '../../src/iommu/domain.ts';
import { FaultParam, IopfGroup } from '../../src/iommu/io_pgfault.ts';
import { FaultQueue } from '../../src/iommufd/fault.ts';
import { HwQueue } from '../../src/iommufd/hw_queue.ts';
import { IoPagetable } from '../../src/iommufd/io_pagetable.ts';
import { IovaBitmap } from '../../src/iommufd/iova_bitmap.ts';
import { MmapRegion } from '../../src/iommufd/mmap.ts';
import { VeventQueue } from '../../src/iommufd/veventq.ts';
import { fromText, type Script, toText } from './commands.ts';
import { playScript } from '../golden/player/player.ts';
import { scriptOf } from './export.ts';
import { Generator } from './generate.ts';
import { runRandom, runScript, SequenceError, Tally } from './sequence.ts';
import { shrink } from './shrink.ts';

const LENGTH = 100;
/** A short cut of `npm run test:model`: the same seeds, fewer of them. */
const SEQUENCES = 160;
const WITH_FAULTS = 20;

/** Runs sequences until one fails; undefined where none does. */
function firstFailure(
  seeds: number,
  faults: boolean,
  tally = new Tally(),
): SequenceError | undefined {
  try {
    for (let seed = 1; seed <= seeds; seed++)
      runRandom(Generator.setup(seed), LENGTH, faults, tally);
    return undefined;
  } catch (error) {
    if (error instanceof SequenceError) return error;
    throw error;
  }
}

/** Fails with the script, so that it can be saved and replayed. */
function expectNone(failure: SequenceError | undefined): void {
  if (!failure) return;
  const small = shrink(failure);
  throw new Error(`${small.message}\nfor node test/model/replay.mjs:\n${toText(small.script)}`, {
    cause: small.cause,
  });
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe('random sequences of calls', () => {
  it('give the answers and the state that the model has', () => {
    const tally = new Tally();
    expectNone(firstFailure(SEQUENCES, false, tally));
    expect(tally.steps).toBe(SEQUENCES * LENGTH);
  });

  it('change nothing where any one of their fault points fails (E2)', () => {
    const tally = new Tally();
    expectNone(firstFailure(WITH_FAULTS, true, tally));
    expect(tally.faults).toBeGreaterThan(WITH_FAULTS * LENGTH * 0.5);
  });

  it('do every kind of step with success', () => {
    const tally = new Tally();
    firstFailure(100, false, tally);
    const kinds = new Set([...tally.outcomes.keys()].map((key) => key.split(' ')[0]));
    const never = [...kinds].filter((kind) => !tally.outcomes.has(`${kind} OK`));
    expect(never).toEqual([]);
    expect(kinds.size).toBe(72);
  });
});

describe('an engine that is broken', () => {
  it('is noticed where a domain keeps a page that was unmapped, and the sequence is shrunk', () => {
    const { unmap } = MockPagingDomain.prototype;
    vi.spyOn(MockPagingDomain.prototype, 'unmap').mockImplementation(function (
      this: MockPagingDomain,
      iova,
      frames,
    ) {
      return frames > 2 ? unmap.call(this, iova, frames - 2) : unmap.call(this, iova, frames);
    });
    const failure = firstFailure(20, false);
    expect(failure?.message).toMatch(
      /in HWPT \d+ is not mapped|is mapped in HWPT \d+, and in no area/,
    );
    if (!failure) return;
    const small = shrink(failure);
    expect(small.script.steps.length).toBeLessThan(10);
    expect(() => runScript(small.script)).toThrow(SequenceError);
  });

  it('is noticed where a failed call keeps what it took', () => {
    const { map } = MockPagingDomain.prototype;
    vi.spyOn(MockPagingDomain.prototype, 'map').mockImplementation(function (
      this: MockPagingDomain,
      iova,
      frame,
      frames,
      prot,
    ) {
      const rc = map.call(this, iova, frame, frames, prot);
      return rc === 0 && frames === 8 ? -Errno.ENOMEM : rc;
    });
    expect(firstFailure(20, false)).toBeInstanceOf(SequenceError);
  });

  it('is noticed where faults outlive their attachment (C4)', () => {
    vi.spyOn(FaultQueue.prototype, 'respondAutomatically').mockImplementation(() => undefined);
    expect(firstFailure(40, false)?.message).toMatch(/answers to faults|faults to be/);
  });

  it('is noticed where a group of faults is answered twice (C13)', () => {
    const { respond } = IopfGroup.prototype;
    vi.spyOn(IopfGroup.prototype, 'respond').mockImplementation(function (this: IopfGroup, code) {
      this.device.iommu?.ops.pageResponse?.(this.device, { ...this.last, code });
      return respond.call(this, code);
    });
    expect(firstFailure(40, false)?.message).toMatch(/answers to faults/);
  });

  it('is noticed where a request of a group is lost (C6)', () => {
    const { takePartial } = FaultParam.prototype;
    vi.spyOn(FaultParam.prototype, 'takePartial').mockImplementation(function (
      this: FaultParam,
      grpid,
    ) {
      return takePartial.call(this, grpid).slice(1);
    });
    expect(firstFailure(120, false)?.message).toMatch(/faults is|bytes is|queue|bytes at/);
  });

  it('is noticed where reading what was written to does not clean it', () => {
    const { readAndClear } = MockPagingDomain.prototype;
    vi.spyOn(MockPagingDomain.prototype, 'readAndClear').mockImplementation(function (
      this: MockPagingDomain,
      iova,
      frames,
      _flags,
      gather,
      record,
    ) {
      return readAndClear.call(this, iova, frames, DIRTY_NO_CLEAR, gather, record);
    });
    expect(firstFailure(60, false)?.message).toMatch(/written to/);
  });

  it('is noticed where the last page that was written to is not told', () => {
    const { set } = IovaBitmap.prototype;
    vi.spyOn(IovaBitmap.prototype, 'set').mockImplementation(function (
      this: IovaBitmap,
      frame,
      frames,
    ) {
      set.call(this, frame, Math.max(1, frames - 1));
    });
    expect(firstFailure(160, false)?.message).toMatch(/of bitmap is/);
  });

  it('is noticed where a lost event has no number', () => {
    const { report } = VeventQueue.prototype;
    vi.spyOn(VeventQueue.prototype, 'report').mockImplementation(function (
      this: VeventQueue,
      data,
    ) {
      return Reflect.get(this, 'events') === this.depth ? 0 : report.call(this, data);
    });
    expect(firstFailure(1500, false)?.message).toMatch(
      /records is|bytes is|poll says|EFAULT|EINVAL/,
    );
  });

  it('is noticed where a hardware queue does not hold the one before it', () => {
    vi.spyOn(HwQueue.prototype, 'hold').mockImplementation(() => undefined);
    expect(firstFailure(160, false)?.message).toMatch(/users of object/);
  });

  it('is noticed where a map of shared pages does not hold its owner', () => {
    vi.spyOn(MmapRegion.prototype, 'opened').mockImplementation(() => undefined);
    expect(firstFailure(160, false)?.message).toMatch(/users of object/);
  });

  it('is noticed where VFIO does not cut a map', () => {
    vi.spyOn(IoPagetable.prototype, 'cut').mockImplementation(() => undefined);
    expect(firstFailure(160, false)?.message).toMatch(/the engine says/);
  });

  it('is noticed where a reservation outlives its device', () => {
    vi.spyOn(IoPagetable.prototype, 'unreserve').mockImplementation(() => undefined);
    expect(firstFailure(40, false)?.message).toMatch(/reserved ranges|with .* left/);
  });
});

describe('a sequence as a script for a real kernel', () => {
  it('is played by the player of the recordings to its end, most calls with success, and leaves nothing', () => {
    let [calls, good] = [0, 0];
    for (let seed = 1; seed <= 20; seed++) {
      const { lines, left } = playScript(scriptOf(seed, LENGTH));
      expect(lines.at(-1)).toMatch(/^END/);
      expect(left).toMatchObject({ pins: 0, contexts: 0 });
      calls += lines.length - 1;
      good += lines.filter((line) => line.includes(' OK')).length;
    }
    expect(calls).toBeGreaterThan(20 * LENGTH * 0.3);
    expect(good).toBeGreaterThan(calls * 0.4);
  });
});

describe('a script', () => {
  it('is the same after it was written and read', () => {
    const script: Script = {
      setup: { seed: 7, memlock: [Infinity, 24], ipcLock: false },
      faults: true,
      steps: [{ op: 'ioas_alloc' }, { op: 'unmap', ioas: 0, iova: 2n ** 64n - 1n, length: 0n }],
    };
    expect(fromText(toText(script))).toEqual(script);
  });
});
