// SPDX-License-Identifier: Apache-2.0
/**
 * The crossings of page request in parts, reuse of its group index, read, answer, detach, replace, unregister and register, and time-out: each
 * is a task of its own, and every order of their steps is covered, on the test driver's hardware. What must hold in each is in
 * fault_order_rig.ts. Here all eight are sampled and seven are complete; `FAULT_ORDERS=all` completes the eight.
 */
import { describe, expect, it } from 'vitest';
import * as t from '../abi/iommufd_test.ts';
import { MockIommu } from '../drivers/mock/mock_iommu.ts';
import { PageRequestFlags } from '../iommu/fault.ts';
import { FaultRegistration } from '../iommu/fault_registration.ts';
import { IopfGroup, IopfQueue, reportDeviceFault } from '../iommu/io_pgfault.ts';
import { FRAME_LANES_LG2, MAX_RUN_LG2, Ram } from '../memory/ram.ts';
import {
  type ExploreOptions,
  type ExploreResult,
  exploredOrThrow,
  replay,
  shortestFailure,
} from '../sim/explore.ts';
import type { Sim } from '../sim/sim.ts';
import { detachDevice } from './change_pt.ts';
import { IommufdDevice } from './device.ts';
import { FaultQueue } from './fault.ts';
import { type Actor, crossing, EVERYBODY, TIMEOUT_NS } from './fault_order_actors.ts';
import { check } from './fault_order_book.ts';
import { type FaultHardware, FaultOrderRig, PRIVATE_DATA } from './fault_order_rig.ts';
import { Iommufd } from './iommufd.ts';
import { LocalClient } from './local_client.ts';

const { LAST_PAGE, PASID_VALID, PRIVATE_DATA: HAS_DATA } = PageRequestFlags;

/** The memory of one world after the other: making it anew would take most of the time. */
const CHUNK = new Uint32Array(2 ** (MAX_RUN_LG2 + FRAME_LANES_LG2));

/** A device of the test driver: what it asks for is with core as soon as it is sent. */
function mockRig(sim: Sim): FaultOrderRig {
  const ram = new Ram({ faults: sim.faults, chunk: () => CHUNK });
  const iommufd = new Iommufd({ sim, pageResponseTimeout: TIMEOUT_NS });
  const mock = new MockIommu(iommufd.core, { ram });
  iommufd.testHardware = mock;
  const client = new LocalClient(iommufd);
  const { u } = client.call('IOMMU_TEST_CMD', {
    op: t.IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS,
    id: client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id,
    u: { mock_domain_flags: { dev_flags: t.MOCK_FLAGS_DEVICE_PASID } },
  });
  const { out_idev_id: deviceId } = u.mock_domain;
  const idev = client.file.context.objects.find(deviceId);
  check(idev instanceof IommufdDevice, 'no device');
  detachDevice(client.file.context, idev, 0);
  const hardware: FaultHardware = {
    ...{ iommufd, client, deviceId },
    onAnswer: () => undefined,
    send: ({ group, pasid, address, isLast }) => {
      const flags = HAS_DATA | (pasid === undefined ? 0 : PASID_VALID) | (isLast ? LAST_PAGE : 0);
      const request = { pasid: pasid ?? 0, grpid: group, perm: 1, privateData: PRIVATE_DATA };
      reportDeviceFault(idev.device, { ...request, flags, addr: address });
      return true;
    },
    checkGone: () =>
      check(iommufd.contexts.length === 0 && ram.liveFrames === 0, 'something is left at the end'),
  };
  mock.onPageResponse = (_device, { grpid, code, privateData }) => {
    check(privateData === PRIVATE_DATA, 'an answer lacks the private data (C9)');
    hardware.onAnswer(grpid, code);
  };
  return new FaultOrderRig(sim, hardware);
}

const runsAll = process.env['FAULT_ORDERS'] === 'all';
const TIME = { timeout: runsAll ? 3_600_000 : 120_000 };
const MERGED = { merge: true, maxRuns: 1e9 } as const;

const inWords = (count: number): string => Math.round(count).toLocaleString('en');

/** Explores, and says how much that was. */
function cross(
  names: readonly Actor[],
  options: ExploreOptions,
  tell?: (outcome: string) => void,
): ExploreResult {
  const start = performance.now();
  const result = exploredOrThrow(crossing(names, mockRig, tell), options);
  const minutes = (performance.now() - start) / 60_000;
  const { complete, runs, redundant, sampled } = result;
  const orders = complete ? result.orders : sampled;
  const told = [orders, orders / minutes, runs + redundant + sampled].map(inWords);
  const [count, perMinute, ran] = told;
  const which = complete ? 'which are all' : 'at random';
  console.log(`${names.join(', ')}: ${count} orders, ${which}; ${perMinute} a minute, ${ran} runs`);
  return result;
}

const without = (...names: Actor[]): Actor[] => EVERYBODY.filter((name) => !names.includes(name));

/** Small enough for every order to be run. */
const SMALL: readonly (readonly Actor[])[] = [
  ['device', 'reader', 'responder', 'index again'],
  ['device', 'responder', 'registrar', 'clock'],
  ['device', 'reader', 'responder', 'detacher', 'replacer'],
  ['device', 'reader', 'responder', 'registrar', 'clock'],
  ['device', 'index again', 'responder', 'registrar', 'replacer'],
];

const RULES = 'B9, C2, C4, C5, C8, C9, C10, C11, C13';

describe(`page faults and what happens to them meanwhile (${RULES})`, TIME, () => {
  it.each(SMALL.map((names) => [names.join(', '), names] as const))(
    '%s: every order is run, and merging what leads to the same loses none',
    (_, names) => {
      const [plain, merged] = [new Set<string>(), new Set<string>()];
      const { runs } = cross(names, { maxRuns: 1e6 }, (outcome) => plain.add(outcome));
      const { orders } = cross(names, MERGED, (outcome) => merged.add(outcome));
      expect([orders, [...merged].toSorted()]).toEqual([runs, [...plain].toSorted()]);
    },
  );

  it('all but the registered handler, in every order', () => {
    expect(cross(without('registrar'), MERGED).orders).toBeGreaterThan(1e6);
  });

  it('all of them, in every order, or 3000 at random', () => {
    const { orders, sampled } = cross(EVERYBODY, runsAll ? MERGED : { maxRuns: 0, samples: 3000 });
    expect(runsAll ? orders : sampled).toBeGreaterThanOrEqual(runsAll ? 1e8 : 3000);
  });
});

/** Runs `body` with a method of a class replaced. */
function broken<K extends string>(
  { prototype }: { readonly prototype: Record<K, unknown> },
  name: K,
  by: unknown,
  body: () => void,
): void {
  const { [name]: whole } = prototype;
  prototype[name] = by;
  try {
    body();
  } finally {
    prototype[name] = whole;
  }
}

/** The shortest order that fails; and it fails again. */
function shortest(names: readonly Actor[]): { error: string; steps: readonly string[] } {
  const program = crossing(names, mockRig);
  const found = shortestFailure(program, MERGED);
  if (!found) throw new Error('nothing fails');
  const { schedule, steps } = found;
  const error = found.error instanceof Error ? found.error.message : String(found.error);
  expect(() => replay(program, schedule, { sim: { without: new Set(found.without) } })).toThrow(
    error,
  );
  return { error, steps };
}

describe('would not pass', TIME, () => {
  const nothing = (): void => undefined;

  it('if faults outlived their attachment (C4, C5)', () => {
    broken(FaultQueue, 'respondAutomatically', nothing, () => {
      const { error, steps } = shortest(without('registrar', 'clock'));
      expect(error).toContain('outlives');
      expect(steps).toEqual(['device: start', 'device: the last of the groups']);
    });
  });

  it('if a life of a handler left its groups to the next (C11)', () => {
    const leaves = function (this: FaultRegistration): void {
      this.device.faultHandlers.delete(this.id);
      this.device.iommu?.ops.disableFaults?.(this.device);
    };
    broken(FaultRegistration, 'unregister', leaves, () => {
      const { error } = shortest(['device', 'registrar']);
      expect(error).toContain('a page request outlives the registration (C11)');
    });
  });

  it('if the group index alone were the match (C8)', () => {
    const byIndex = function (this: IopfGroup, { grpid }: { readonly grpid: number }): boolean {
      return grpid === this.last.grpid;
    };
    broken(IopfGroup, 'matches', byIndex, () => {
      const { error, steps } = shortest(['device', 'index again', 'responder', 'clock']);
      expect(error).toContain('SUCCESS, and no user said so');
      expect(steps.at(-1)).toBe('responder: start');
    });
  });

  it('if time-outs answered twice (C10, C13)', () => {
    const always = function (this: IopfGroup, code: number): void {
      this.respond(code as never);
      this.device.iommu?.ops.pageResponse?.(this.device, { ...this.last, code: code as never });
    };
    broken(IopfGroup, 'end', always, () => {
      expect(shortest(['device', 'clock']).error).toContain('a second answer (C13)');
    });
  });

  it('if faults went on when nobody takes them any more (C1)', () => {
    broken(IopfQueue, 'removeDevice', nothing, () => {
      expect(shortest(['device', 'detacher']).error).toMatch(/faults are on|refused/);
    });
  });
});
