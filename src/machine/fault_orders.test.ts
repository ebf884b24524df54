// SPDX-License-Identifier: Apache-2.0
/**
 * All that can cross a page request (fault_order_actors.ts of iommufd) where a driver and a model of hardware have steps of their own: every order
 * within a bound on delays, and samples beyond. `FAULT_ORDERS=all` has the larger bounds.
 */
import { describe, expect, it } from 'vitest';
import { DeviceInfo } from '../drivers/intel/device_info.ts';
import { PageResponseCode } from '../iommu/fault.ts';
import { type Actor, crossing, EVERYBODY } from '../iommufd/fault_order_actors.ts';
import { check } from '../iommufd/fault_order_book.ts';
import { type FaultHardware, FaultOrderRig, PRIVATE_DATA } from '../iommufd/fault_order_rig.ts';
import { LocalClient } from '../iommufd/local_client.ts';
import { FRAME_LANES_LG2, MAX_RUN_LG2, Ram } from '../memory/ram.ts';
import { GroupResponse } from '../pci/ats_messages.ts';
import { type ExploreOptions, exploreOrThrow, replay, shortestFailure } from '../sim/explore.ts';
import type { Sim } from '../sim/sim.ts';
import { LocalVfioClient } from '../vfio/local_client.ts';
import type { IommuDescription } from './description.ts';
import { Machine } from './machine.ts';

const devices = [{ name: 'test0', model: 'iommu_test', address: '0000:00:03.0' }] as const;
const HARDWARE = {
  paging: { name: 'iommu0', driver: 'paging', devices },
  'intel-vtd': { name: 'dmar0', driver: 'intel-vtd', privateData: true, devices },
} satisfies Record<string, IommuDescription>;
type Driver = keyof typeof HARDWARE;

const CHUNK = new Uint32Array(2 ** (MAX_RUN_LG2 + FRAME_LANES_LG2));

const CODES = {
  [GroupResponse.SUCCESS]: PageResponseCode.SUCCESS,
  [GroupResponse.INVALID]: PageResponseCode.INVALID,
  [GroupResponse.FAILURE]: PageResponseCode.FAILURE,
} as const;

const rigOf =
  (driver: Driver) =>
  (sim: Sim): FaultOrderRig => {
    const machine = new Machine({
      sim,
      ram: new Ram({ faults: sim.faults, chunk: () => CHUNK }),
      description: {
        name: 'orders',
        summary: '',
        pageResponseTimeoutMs: 1,
        iommus: [HARDWARE[driver]],
      },
    });
    const { iommufd } = machine;
    const client = new LocalClient(iommufd);
    const cdev = machine.vfio.cdev('vfio0');
    const [fn] = machine.pciDevices;
    check(cdev !== undefined && fn !== undefined, 'no device');
    const device = new LocalVfioClient(cdev, client.process);
    const { out_devid: deviceId } = device.call('VFIO_DEVICE_BIND_IOMMUFD', { iommufd: client.fd });
    fn.config.write(4, 2, 6);
    const hardware: FaultHardware = {
      ...{ iommufd, client, deviceId },
      onAnswer: () => undefined,
      send: ({ group, pasid, address, isLast }) => {
        const prefix = { execute: false, privileged: false };
        const refusal = fn.atsPort.pageRequest({
          pasid: pasid === undefined ? undefined : { ...prefix, value: pasid },
          ...{ group, address, read: true, write: false, last: isLast },
          privateData: isLast ? PRIVATE_DATA : undefined,
        });
        return refusal === undefined;
      },
      checkGone: () => check(iommufd.contexts.length === 0, 'a context is left at the end'),
    };
    machine.dmaObserver = {
      groupResponse: (_bdf, { group, code, privateData }, isExpected) => {
        check(isExpected, 'the device has an answer that it does not expect');
        check(privateData === PRIVATE_DATA, 'an answer lacks the private data (C9)');
        hardware.onAnswer(group, CODES[code]);
      },
    };
    return new FaultOrderRig(sim, hardware);
  };

const runsAll = process.env['FAULT_ORDERS'] === 'all';
const TIME = { timeout: runsAll ? 3_600_000 : 120_000 };
/** Each of them begins once. */
const ROTATIONS: readonly (readonly Actor[])[] = EVERYBODY.map((_, i) => [
  ...EVERYBODY.slice(i),
  ...EVERYBODY.slice(0, i),
]);

/** The orders in which they can be one after the other. */
function* permutations(names: readonly Actor[]): Generator<readonly Actor[]> {
  if (names.length === 0) yield [];
  for (const first of names) {
    const rest = names.filter((name) => name !== first);
    for (const order of permutations(rest)) yield [first, ...order];
  }
}

/** Where the orders begin that have no delays. */
const FROM = {
  'one order': () => [EVERYBODY],
  'eight orders': () => ROTATIONS,
  'every order of the tasks as a whole': () => permutations(EVERYBODY),
} satisfies Record<string, () => Iterable<readonly Actor[]>>;

type Crossing = readonly [Driver, from: keyof typeof FROM, maxDelays: number];
const CROSSINGS: readonly Crossing[] = [
  ['paging', 'one order', 3],
  ['paging', 'eight orders', 2],
  ['intel-vtd', 'eight orders', 1],
];
const LARGER: readonly Crossing[] = [
  ['paging', 'one order', 5],
  ['paging', 'eight orders', 3],
  ['paging', 'every order of the tasks as a whole', 0],
  ['intel-vtd', 'one order', 2],
  ['intel-vtd', 'every order of the tasks as a whole', 0],
];

/** Explores, and says how much that was. */
function cross(
  driver: Driver,
  what: string,
  from: Iterable<readonly Actor[]>,
  options: ExploreOptions,
): number {
  const start = performance.now();
  let count = 0;
  for (const names of from) count += exploreOrThrow(crossing(names, rigOf(driver)), options);
  const perMinute = (count / (performance.now() - start)) * 60_000;
  const told = [count, perMinute].map((each) => Math.round(each).toLocaleString('en'));
  console.log(`all eight on ${driver}, ${what}: ${told[0]} orders, ${told[1]} a minute`);
  return count;
}

describe('all that can cross a page request (B9, C2, C4, C5, C8, C9, C10, C11, C13)', TIME, () => {
  it.each(runsAll ? [...CROSSINGS, ...LARGER] : CROSSINGS)(
    'on %s, from %s, with at most %i delays',
    (driver, from, maxDelays) => {
      const what = `all from ${from} with at most ${maxDelays} delays`;
      expect(cross(driver, what, FROM[from](), { maxDelays, maxRuns: 1e7 })).toBeGreaterThan(500);
    },
  );

  it.each(['paging', 'intel-vtd'] as const)('on %s, at random', (driver) => {
    const samples = runsAll ? 20_000 : 200;
    expect(cross(driver, 'at random', [EVERYBODY], { maxRuns: 0, samples })).toBe(samples);
  });
});

describe('a driver whose detach does not drain (C4)', TIME, () => {
  const program = crossing(
    EVERYBODY.filter((name) => name !== 'registrar'),
    rigOf('intel-vtd'),
  );

  it('is found, by an order that shows it and can be run again', () => {
    const { drainFaults } = DeviceInfo.prototype;
    DeviceInfo.prototype.drainFaults = () => undefined;
    try {
      const found = shortestFailure(program, { maxDelays: 1 });
      if (!found) throw new Error('nothing fails');
      const { steps, schedule, without, error } = found;
      console.log(`without the drain: ${String(error)}\n  ${steps.join('\n  ')}`);
      expect(String(error)).toContain('a page request outlives the detach (C4)');
      expect(steps.filter((step) => /^(device|detacher)/.test(step))).toEqual([
        'device: start',
        'device: the last of the groups',
        'detacher: start',
      ]);
      const sim = { without: new Set(without) };
      expect(() => replay(program, schedule, { sim })).toThrow((error as Error).message);
      DeviceInfo.prototype.drainFaults = drainFaults;
      expect(() => replay(program, schedule, { sim })).not.toThrow();
    } finally {
      DeviceInfo.prototype.drainFaults = drainFaults;
    }
  });
});
