// SPDX-License-Identifier: Apache-2.0
/**
 * The crossings of request, answer, detach, replace and time-out, all of them: each is a task of its own, and every order of their steps is
 * run. What must hold in each: exactly one answer for each group that the device completed (C13), none of it left anywhere, and nothing of
 * an attachment that has ended can be read or answered (C4, C5).
 */
import { describe, expect, it } from 'vitest';
import * as t from '../abi/iommufd_test.ts';
import { ErrnoError } from '../base/errno.ts';
import { MockIommu } from '../drivers/mock/mock_iommu.ts';
import type { Device } from '../iommu/device.ts';
import { PageRequestFlags } from '../iommu/fault.ts';
import { reportDeviceFault } from '../iommu/io_pgfault.ts';
import type { DeviceFile } from '../kernel/file.ts';
import { Ram } from '../memory/ram.ts';
import { exploreOrThrow, type ExploreOptions, type Program } from '../sim/explore.ts';
import { type Body, until } from '../sim/task.ts';
import { attachDevice, detachDevice, replaceDevice } from './change_pt.ts';
import { IommufdDevice } from './device.ts';
import { FaultQueue } from './fault.ts';
import { Iommufd } from './iommufd.ts';
import { LocalClient } from './local_client.ts';
import type { Sim } from '../sim/sim.ts';

const BUFFER = 0x20_0000n;
const [FAULT, RESPONSE] = [40, 8];
const FAULT_ID_VALID = 4;
const TIMEOUT_NS = 1_000_000;
const GROUP = 3;
const { LAST_PAGE } = PageRequestFlags;

/** One for all orders: a new one for each would take most of the time. */
const ram = new Ram();

/** A device with two tables that take faults, each with its queue, and one that does not. */
function world(sim: Sim) {
  const framesBefore = ram.liveFrames;
  const iommufd = new Iommufd({ sim, pageResponseTimeout: TIMEOUT_NS });
  const mock = new MockIommu(iommufd.core, { ram });
  iommufd.testHardware = mock;
  const answers: number[] = [];
  mock.onPageResponse = (_device, { grpid }) => void answers.push(grpid);
  const client = new LocalClient(iommufd);
  client.process.mm.map(BUFFER, 0x1000);
  const ioas = client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
  const made = client.call('IOMMU_TEST_CMD', {
    op: t.IOMMU_TEST_OP_MOCK_DOMAIN,
    id: ioas,
  });
  const dev_id = made.u.mock_domain.out_idev_id;
  const { objects } = client.file.context;
  const idev = objects.find(dev_id);
  if (!(idev instanceof IommufdDevice)) throw new Error('no device');
  const queueOf = () => {
    const { out_fault_id: fault_id, out_fault_fd } = client.call('IOMMU_FAULT_QUEUE_ALLOC', {});
    const open = client.process.get(out_fault_fd);
    const queue = objects.find(fault_id);
    if (open?.kind !== 'device' || !(queue instanceof FaultQueue)) throw new Error('no queue');
    const hwpt = client.call('IOMMU_HWPT_ALLOC', {
      ...{ dev_id, pt_id: ioas, flags: FAULT_ID_VALID, fault_id },
    }).out_hwpt_id;
    return { file: open.file, queue, hwpt };
  };
  return {
    sim,
    framesBefore,
    iommufd,
    client,
    idev,
    ioas,
    answers,
    one: queueOf(),
    other: queueOf(),
  };
}

type World = ReturnType<typeof world>;

/** Reads what is there; the cookies. */
function read({ client }: World, file: DeviceFile): number[] {
  const bytes = file.read?.(client.process, BUFFER, 4 * FAULT) ?? 0;
  return Array.from({ length: Math.max(bytes, 0) / FAULT }, (_, i) => {
    const cookie = new Uint8Array(4);
    client.process.mm.copyIn(BUFFER + BigInt(i * FAULT + 36), cookie);
    return new DataView(cookie.buffer).getUint32(0, true);
  });
}

/** Answers SUCCESS; whether it was taken. */
function respond({ client }: World, file: DeviceFile, cookie: number): boolean {
  client.process.mm.copyOut(BUFFER, new Uint8Array(Uint32Array.of(cookie, 0).buffer));
  return file.write?.(client.process, BUFFER, RESPONSE) === RESPONSE;
}

const isIdle = ({ outstanding: { queued, unanswered } }: FaultQueue): boolean =>
  queued === 0 && unanswered === 0;

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

/** Tasks by name; each gets the world, and counts completed groups. */
type Actor = (it: World, seen: { completed: number; cookies: number[] }) => Body;

const report = (device: Device, flags: number): void =>
  void reportDeviceFault(device, { flags, pasid: 0, grpid: GROUP, perm: 1, addr: 0x1000n });

const actors = {
  /** In parts; and when it has its answer, once more with the same group index. */
  *device(it, seen): Body {
    report(it.idev.device, 0);
    yield 'the last of the group';
    report(it.idev.device, LAST_PAGE);
    seen.completed++;
    yield until('an answer', () => it.answers.length > 0);
    report(it.idev.device, LAST_PAGE);
    seen.completed++;
  },
  *reader(it, seen): Body {
    seen.cookies.push(...read(it, it.one.file));
    yield 'read again';
    seen.cookies.push(...read(it, it.one.file));
  },
  *responder(it, seen): Body {
    for (const cookie of seen.cookies) respond(it, it.one.file, cookie);
    yield 'answer again';
    for (const cookie of seen.cookies) respond(it, it.one.file, cookie);
  },
  *detacher(it): Body {
    detachDevice(it.client.file.context, it.idev, 0);
    check(isIdle(it.one.queue), 'a fault outlives the detach (C4)');
    yield 'attach again';
    attachDevice(it.idev, 0, it.one.hwpt);
  },
  *replacer(it): Body {
    try {
      replaceDevice(it.idev, 0, it.other.hwpt);
      check(isIdle(it.one.queue), 'a fault of the old table outlives the replace (C5)');
    } catch (error) {
      // It was detached at that moment (B4).
      if (!(error instanceof ErrnoError) || error.code !== 'EINVAL') throw error;
    }
    yield 'the end';
  },
  *clock(it): Body {
    yield 'time passes';
    it.sim.clock.advanceBy(TIMEOUT_NS + 1);
  },
} satisfies Record<string, Actor>;

const among = (...names: (keyof typeof actors)[]): Program => {
  return (sim) => {
    const it = world(sim);
    attachOr(it);
    const seen = { completed: 0, cookies: [] as number[] };
    for (const name of names) {
      const make: Actor = actors[name];
      sim.spawn(name, make(it, seen), { optional: true, daemon: name === 'device' });
    }
    return () => {
      const { idev, client, iommufd, answers, one, other } = it;
      detachDevice(client.file.context, idev, 0);
      sim.settle();
      check(isIdle(one.queue) && isIdle(other.queue), 'a queue still has a fault');
      check(
        answers.length === seen.completed,
        `${answers.length} answers for ${seen.completed} completed groups (C13)`,
      );
      check(iommufd.core.warnings.length === 0, iommufd.core.warnings.join());
      client.process.exit();
      const isGone = iommufd.contexts.length === 0 && ram.liveFrames === it.framesBefore;
      check(isGone, 'something is left at the end');
    };
  };
};

/** The test driver's device is attached to the address space at first. */
function attachOr(it: World): void {
  replaceDevice(it.idev, 0, it.one.hwpt);
}

const told = (what: string, runs: number, start: number): void => {
  const perMinute = Math.round((runs / (performance.now() - start)) * 60_000);
  console.log(`${what}: ${runs} orders, ${perMinute} a minute`);
};

type Name = keyof typeof actors;

/** Each in every order. */
const CROSSINGS: readonly (readonly Name[])[] = [
  ['device', 'reader', 'responder'],
  ['device', 'reader', 'detacher'],
  ['device', 'reader', 'replacer'],
  ['device', 'reader', 'clock'],
  ['device', 'detacher', 'replacer'],
  ['device', 'reader', 'responder', 'replacer'],
];
/** In every order some hundred thousand: here with so many preemptions at most. `FAULT_ORDERS=all` runs them all. */
const LARGER: readonly (readonly Name[])[] = [
  ['device', 'reader', 'responder', 'detacher'],
  ['device', 'reader', 'responder', 'clock'],
  ['device', 'reader', 'replacer', 'clock'],
  ['device', 'detacher', 'replacer', 'clock'],
  ['device', 'reader', 'responder', 'detacher', 'replacer', 'clock'],
];
const runsAll = process.env['FAULT_ORDERS'] === 'all';
const boundFor = (names: readonly Name[]): ExploreOptions => {
  if (runsAll && names.length < 6) return { maxRuns: 10_000_000 };
  const maxPreemptions = (names.length < 6 ? 2 : 0) + (runsAll ? 1 : 0);
  return { maxPreemptions, maxRuns: 1_000_000 };
};
const TIME = { timeout: runsAll ? 3_600_000 : 120_000 };

function cross(names: readonly Name[], options: ExploreOptions): number {
  const start = performance.now();
  const runs = exploreOrThrow(among(...names), options);
  told(names.join(', '), runs, start);
  return runs;
}

describe('page faults and what happens to them meanwhile (C4, C5, C8, C10, C13)', () => {
  it.each(CROSSINGS.map((names) => [names.join(', '), names] as const))(
    '%s, in every order',
    TIME,
    (_, names) => {
      expect(cross(names, { maxRuns: 1_000_000 })).toBeGreaterThan(50);
    },
  );

  it.each(LARGER.map((names) => [names.join(', '), names] as const))('%s', TIME, (_, names) => {
    expect(cross(names, boundFor(names))).toBeGreaterThan(100);
  });

  it('all of them, in orders at random', TIME, () => {
    const everybody = Object.keys(actors) as Name[];
    expect(cross(everybody, { maxRuns: 1, samples: runsAll ? 100_000 : 3000 })).toBe(
      1 + (runsAll ? 100_000 : 3000),
    );
  });

  it('would not pass if faults outlived their attachment: two steps show it', () => {
    const { respondAutomatically } = FaultQueue.prototype;
    FaultQueue.prototype.respondAutomatically = () => undefined;
    try {
      expect(() => exploreOrThrow(among('device', 'reader', 'replacer', 'clock'))).toThrow(
        /outlives the replace \(C5\)\n {2}device: start\n {2}device: the last of the group\n {2}replacer: start\n/,
      );
    } finally {
      FaultQueue.prototype.respondAutomatically = respondAutomatically;
    }
  });
});
