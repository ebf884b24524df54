// SPDX-License-Identifier: Apache-2.0
/**
 * Handlers that are registered on a device, against all that can cross them: answers, time-outs, the end of a registration and a new one that
 * sees the same group indexes again. Every order of their steps is run. And the ownership of a group against its PASIDs.
 */
import { describe, expect, it } from 'vitest';
import { Errno } from '../base/errno.ts';
import { exploreOrThrow, type Program } from '../sim/explore.ts';
import type { Sim } from '../sim/sim.ts';
import { type Body, until } from '../sim/task.ts';
import { attach, detach } from './attach.ts';
import { IommuCore } from './core.ts';
import { IommuDevice } from './device.ts';
import { FakeDevice, FakeWorld } from './fake_driver.ts';
import { PageRequestFlags, PageResponseCode } from './fault.ts';
import {
  FaultFeature,
  type FaultRegistration,
  registerFaultHandler,
} from './fault_registration.ts';
import { AttachHandle } from './handle.ts';
import { IopfGroup, IopfQueue, reportDeviceFault } from './io_pgfault.ts';
import { claimDmaOwner, releaseDmaOwner } from './ownership.ts';

const TIMEOUT_NS = 1_000_000;
const GROUP = 5;
const DATA = 0x1234_5678_9abc_def0n;
const { LAST_PAGE, PRIVATE_DATA } = PageRequestFlags;

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

/** A device that can fault, and what its driver was told to answer. */
function world(sim: Sim) {
  const answers: { readonly grpid: number; readonly data: bigint | undefined }[] = [];
  const core = new IommuCore({ sim, pageResponseTimeout: TIMEOUT_NS });
  const queue = new IopfQueue(core);
  const fake = new FakeWorld({
    pageResponse: (_device, { grpid, privateData }) =>
      void answers.push({ grpid, data: privateData }),
    enableFaults: (device) => queue.addDevice(device),
    disableFaults: (device) => queue.removeDevice(device),
  });
  // No tables: they would take most of the time.
  Object.assign(fake.ops, { defaultDomain: fake.blocked });
  const device = new FakeDevice('device0', { canFault: true });
  const rc = core.probeDevice(device, new IommuDevice('iommu0', fake.ops, { maxPasids: 64 }));
  check(rc === 0, `the device is refused (${rc})`);
  return { sim, core, device, answers };
}

interface Seen {
  completed: number;
  registration: FaultRegistration | undefined;
  /** What users were shown, with the life in which they were. */
  readonly shown: { readonly life: FaultRegistration; readonly token: bigint | undefined }[];
}

type Actor = (it: ReturnType<typeof world>, seen: Seen) => Body;

function register({ device }: ReturnType<typeof world>, seen: Seen): void {
  const made = registerFaultHandler(device, 0, {
    features: FaultFeature.PRIVATE_DATA,
    report: (records, life) => {
      const last = records.at(-1);
      if (last?.type !== 'page request') throw new Error('no page request');
      check(last.request.privateData !== DATA, 'a user sees the private data (C9)');
      seen.shown.push({ life, token: last.request.privateData });
      return 0;
    },
  });
  if (typeof made !== 'number') seen.registration = made;
  else check(made === -Errno.EBUSY, `register: ${made}`);
}

/** Each answer that a user can give, to the life in force; those of a life before must be refused. */
function answerAll({ core }: ReturnType<typeof world>, seen: Seen): void {
  for (const { life, token } of seen.shown) {
    const spurious = core.spuriousPageResponses;
    const rc = seen.registration?.respond({
      ...{ pasid: 0, grpid: GROUP, code: PageResponseCode.SUCCESS },
      ...(token === undefined ? {} : { privateData: token }),
    });
    if (life !== seen.registration && rc !== undefined) {
      check(rc === -Errno.EINVAL, 'an answer of a life before is taken (C11)');
      check(core.spuriousPageResponses === spurious + 1, 'it is not counted (C8)');
    }
  }
}

const actors = {
  *device(it, seen): Body {
    const request = { pasid: 0, grpid: GROUP, perm: 1, addr: 0x1000n, privateData: DATA };
    const send = (flags: number): void =>
      void reportDeviceFault(it.device, { ...request, flags: flags | PRIVATE_DATA });
    send(0);
    yield 'the last of the group';
    send(LAST_PAGE);
    seen.completed++;
    yield until('an answer', () => it.answers.length > 0);
    send(LAST_PAGE);
    seen.completed++;
  },
  *user(it, seen): Body {
    answerAll(it, seen);
    yield 'answer again';
    answerAll(it, seen);
  },
  *owner(it, seen): Body {
    seen.registration?.unregister();
    check((it.device.faultParam?.unanswered.size ?? 0) === 0, 'unregistered, and a group waits');
    yield 'register again';
    register(it, seen);
  },
  *clock(it): Body {
    yield 'time passes';
    it.sim.clock.advanceBy(TIMEOUT_NS + 1);
  },
} satisfies Record<string, Actor>;

const registered =
  (...names: (keyof typeof actors)[]): Program =>
  (sim) => {
    const it = world(sim);
    const seen: Seen = { completed: 0, registration: undefined, shown: [] };
    register(it, seen);
    for (const name of names) {
      const actor: Actor = actors[name];
      sim.spawn(name, actor(it, seen), { daemon: name === 'device' });
    }
    return () => {
      sim.settle();
      seen.registration?.unregister();
      sim.settle();
      const { answers, core } = it;
      const counts = `${answers.length} answers for ${seen.completed} completed groups (C13)`;
      check(answers.length === seen.completed, counts);
      check(
        answers.every(({ data }) => data === DATA),
        'an answer lacks the private data (C9)',
      );
      check(core.warnings.length === 0, core.warnings.join());
    };
  };

describe('registered handlers (C8, C9, C10, C11, C13)', () => {
  it.each([
    ['device', 'user', 'owner'],
    ['device', 'owner', 'clock'],
    ['device', 'user', 'clock'],
    ['device', 'user', 'owner', 'clock'],
  ] as const)('%s, %s, %s, in every order', (...names) => {
    const start = performance.now();
    const runs = exploreOrThrow(registered(...names), { maxRuns: 1_000_000 });
    const perMinute = Math.round((runs / (performance.now() - start)) * 60_000);
    console.log(`${names.join(', ')}: ${runs} orders, ${perMinute} a minute`);
    expect(runs).toBeGreaterThan(100);
  });

  it('would not pass if the group index alone were the match (C8, C11)', () => {
    const { matches } = IopfGroup.prototype;
    IopfGroup.prototype.matches = function (this: IopfGroup, { grpid }) {
      return grpid === this.last.grpid;
    };
    try {
      expect(() => exploreOrThrow(registered('device', 'user', 'owner'))).toThrow(
        'an answer of a life before is taken (C11)',
      );
    } finally {
      IopfGroup.prototype.matches = matches;
    }
  });
});

describe('ownership and PASIDs (B9)', () => {
  it('a group with a PASID attached is given up by nobody, in every order', () => {
    const runs = exploreOrThrow((sim) => {
      const core = new IommuCore({ sim });
      const fake = new FakeWorld();
      const device = new FakeDevice('device0', { pasidBits: 4 });
      check(
        core.probeDevice(device, new IommuDevice('i', fake.ops, { maxPasids: 64 })) === 0,
        'probe',
      );
      const group = device.group;
      if (!group) throw new Error('no group');
      const [one, two] = [{}, {}];
      check(claimDmaOwner(device, one) === 0, 'claim');
      const domain = fake.domain(device);
      let violations = 0;
      sim.spawn('user', function* (): Body {
        if (group.owner !== one) return;
        check(attach(device, 3, domain, new AttachHandle()) === 0, 'attach');
        yield 'detach';
        detach(device, 3, domain);
      });
      sim.spawn('release', function* (): Body {
        if (group.pasids.size > 0) violations++;
        releaseDmaOwner(device);
        check(group.pasids.size === 0 || group.owner === one, 'given up with a PASID left');
        yield 'the end';
      });
      sim.spawn('other', function* (): Body {
        const rc = claimDmaOwner(device, two);
        check(rc === 0 || rc === -Errno.EPERM, `claim: ${rc}`);
        check(rc !== 0 || group.pasids.size === 0, 'two owners share a group');
        yield 'the end';
      });
      return () => {
        check(group.pasids.size === 0, 'a PASID is left');
        check(core.ownershipViolations === violations, 'a violation is not counted');
      };
    });
    expect(runs).toBeGreaterThan(10);
  });
});
