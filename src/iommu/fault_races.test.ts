// SPDX-License-Identifier: Apache-2.0
/**
 * Page requests against everything that takes their way away, in every order of their steps (with one or two preemptions, and samples of the others). Covered:
 * report in parts, report with a group index again, answer, detach, replace, unregister and register, time-out, exit of a process. The driver
 * lets others run in each of its callbacks, with the lock of the group held.
 */
import { describe, expect, it } from 'vitest';
import { exploreOrThrow } from '../sim/explore.ts';
import type { Sim } from '../sim/sim.ts';
import { type Body, delay, until } from '../sim/task.ts';
import type { Table } from '../generic_pt/table.ts';
import { FRAME_LANES_LG2, MAX_RUN_LG2, Ram } from '../memory/ram.ts';
import { attach } from './attach.ts';
import { BaseDomain } from './base_domain.ts';
import type { IommuCore } from './core.ts';
import { type Device, NO_PASID } from './device.ts';
import { type Domain, DomainType, isFaultCapable } from './domain.ts';
import { type FakeDevice, FakeDomain, FakeSvaDomain, FakeWorld } from './fake_driver.ts';
import { PageRequestFlags, type PageResponse, PageResponseCode } from './fault.ts';
import { registerFaultHandler } from './fault_registration.ts';
import type { FaultRecord } from './fault_record.ts';
import { AttachHandle } from './handle.ts';
import { endFaults, type IopfGroup, IopfQueue, reportDeviceFault } from './io_pgfault.ts';
import { claimDmaOwner } from './ownership.ts';
import { ProcessMm } from './process_mm.ts';
import { detachSteps, replaceSteps, whenFree } from './steps.ts';

const { LAST_PAGE, PASID_VALID } = PageRequestFlags;
const { SUCCESS, INVALID } = PageResponseCode;
const AT = 0x10_0000n;

/** The RAM of one world after the other: making it anew would take most of the time. */
const CHUNK = new Uint32Array(2 ** (MAX_RUN_LG2 + FRAME_LANES_LG2));

/** Every order with one preemption as far as that goes, and some of the others. */
const BOUNDS = { maxPreemptions: 1, maxRuns: 500, samples: 300 } as const;

/** A world whose driver does what C1, C4 and C5 ask of it, and others run whenever it touches hardware. */
class RacyWorld {
  readonly sim: Sim;
  readonly fake: FakeWorld;
  readonly core: IommuCore;
  readonly queue: IopfQueue;
  readonly device: FakeDevice;
  readonly answers: PageResponse[] = [];
  /** Groups that the device has completed. */
  completed = 0;
  users = 0;

  constructor(sim: Sim, options: { readonly pageResponseTimeout?: number } = {}) {
    this.sim = sim;
    const blockedDomain = new RacyBlockedDomain(this);
    this.fake = new FakeWorld(
      {
        blockedDomain,
        domainAllocPagingFlags: () => {
          const table = this.fake.makeTable();
          return typeof table === 'number' ? table : new RacyDomain(this, table);
        },
        domainAllocSva: (_device, mm) => new RacySvaDomain(this, mm),
        pageResponse: (_device, response) => {
          sim.point('page response command');
          this.answers.push(response);
        },
        enableFaults: (device) => this.use(device),
        disableFaults: (device) => this.release(device),
      },
      { sim, ram: new Ram({ faults: sim.faults, chunk: () => CHUNK }), ...options },
    );
    this.core = this.fake.core;
    this.queue = new IopfQueue(this.core);
    this.device = this.fake.add('a', { canFault: true, pasidBits: 4 });
  }

  use(device: Device): number {
    return this.users++ === 0 ? this.queue.addDevice(device) : 0;
  }

  release(device: Device): void {
    if (--this.users === 0) this.queue.removeDevice(device);
  }

  /** What a driver does around the switch of a domain. */
  change(device: Device, to: Domain, from: Domain | undefined, set: () => number): number {
    const { sim } = this;
    if (isFaultCapable(to)) expect(this.use(device)).toBe(0);
    sim.point('before the switch');
    const rc = set();
    sim.point('drain');
    if (from && isFaultCapable(from)) {
      this.queue.flushDevice(device);
      this.release(device);
    }
    return rc;
  }

  /** A device asks for two pages with one group, and again with the same group once it has its answer. */
  *requests(groups: number, pasid = NO_PASID): Body {
    const flags = pasid === NO_PASID ? 0 : PASID_VALID;
    const request = { pasid, grpid: 1, perm: 1, addr: AT };
    for (let i = 1; i <= groups; i++) {
      reportDeviceFault(this.device, { ...request, flags });
      yield 'first of two requests';
      reportDeviceFault(this.device, { ...request, flags: flags | LAST_PAGE });
      this.completed++;
      yield until('the answer', () => this.answers.length >= this.completed);
    }
  }

  /** Exactly one answer for each group, nothing is owed or kept, and nobody did what is against the rules. */
  check(groups: number): void {
    expect(this.completed).toBe(groups);
    expect(this.answers).toHaveLength(groups);
    expect(this.core.warnings).toEqual([]);
    expect(this.device.faultParam?.unanswered.size ?? 0).toBe(0);
    expect(this.device.faultParam?.pending.size ?? 0).toBe(0);
    this.sim.assertNothingHeld();
  }
}

class RacyDomain extends FakeDomain {
  readonly #world: RacyWorld;
  constructor(world: RacyWorld, table: Table) {
    super(table);
    this.#world = world;
  }
  override attachDev(device: Device, old?: Domain): number {
    return this.#world.change(device, this, old, () => super.attachDev(device));
  }
}

class RacyBlockedDomain extends BaseDomain<typeof DomainType.BLOCKED> {
  readonly #world: RacyWorld;
  constructor(world: RacyWorld) {
    super(DomainType.BLOCKED);
    this.#world = world;
  }
  override attachDev(device: Device, old?: Domain): number {
    return this.#world.change(device, this, old, () => 0);
  }
  override setDevPasid(device: Device, _pasid: number, old?: Domain): number {
    return this.#world.change(device, this, old, () => 0);
  }
}

class RacySvaDomain extends FakeSvaDomain {
  readonly #world: RacyWorld;
  constructor(world: RacyWorld, mm: FakeSvaDomain['mm']) {
    super(mm);
    this.#world = world;
  }
  override setDevPasid(device: Device, pasid: number, old?: Domain): number {
    return this.#world.change(device, this, old, () => super.setDevPasid(device, pasid));
  }
}

/** A user who takes groups and answers them. */
class User {
  readonly taken: IopfGroup[] = [];
  spurious = 0;
  readonly #sim: Sim;
  constructor(sim: Sim) {
    this.#sim = sim;
  }
  handle(group: IopfGroup): number {
    group.dequeue();
    this.taken.push(group);
    return 0;
  }
  answered(group: IopfGroup): void {
    const at = this.taken.indexOf(group);
    if (at >= 0) this.taken.splice(at, 1);
  }
  /** Answers what comes until it is told that no more will. */
  *answers(isOver: () => boolean): Body {
    for (;;) {
      yield until('a group', () => this.taken.length > 0 || isOver());
      const group = this.taken.shift();
      if (!group) return;
      yield 'thinks';
      this.#sim.point('writes the answer');
      if (!group.respond(SUCCESS)) this.spurious++;
    }
  }
}

describe('a page request', () => {
  it('C4, C13: against a detach has exactly one answer, in every order', () => {
    const seen = new Set<string>();
    const runs = exploreOrThrow(
      (sim) => {
        const world = new RacyWorld(sim);
        const { device } = world;
        const user = new User(sim);
        claimDmaOwner(device, world);
        const domain = world.fake.domain(device, { flags: 0, faultHandler: user });
        const handle = new AttachHandle();
        attach(device, NO_PASID, domain, handle);
        sim.spawn('device', world.requests(1));
        sim.spawn(
          'user',
          user.answers(() => world.answers.length === 1),
        );
        sim.spawn('detach', function* (): Body {
          yield* detachSteps(device, NO_PASID, domain);
          endFaults(handle);
          expect(handle.faults.size).toBe(0);
          expect(user.taken).toEqual([]);
        });
        return () => {
          world.check(1);
          expect(device.faultParam).toBeUndefined();
          expect(world.core.spuriousPageResponses).toBe(user.spurious);
          seen.add(`${world.answers[0]?.code} ${user.spurious}`);
        };
      },
      { maxPreemptions: 2, maxRuns: 2000, samples: 500 },
    );
    expect(runs).toBeGreaterThan(50);
    // Answered by the user; by the detach; by the detach while the user was about to.
    expect([...seen].toSorted()).toEqual([`${SUCCESS} 0`, `${INVALID} 0`, `${INVALID} 1`]);
  });

  it('C2, C4: made of one attachment never comes to the next: nobody runs between the report and its delivery', () => {
    const runs = exploreOrThrow((sim) => {
      const { device, fake } = new RacyWorld(sim);
      let attached = 0;
      const attachNext = (): Domain => {
        const own = BigInt(++attached);
        const handle = (group: IopfGroup): number => {
          expect(group.last.addr).toBe(own);
          return 0;
        };
        const domain = fake.domain(device, { flags: 0, faultHandler: { handle } });
        expect(attach(device, NO_PASID, domain, new AttachHandle())).toBe(0);
        return domain;
      };
      claimDmaOwner(device, fake);
      const first = attachNext();
      sim.spawn('device', function* (): Body {
        yield 'asks';
        const request = { flags: LAST_PAGE, pasid: 0, grpid: 1, perm: 1 };
        reportDeviceFault(device, { ...request, addr: BigInt(attached) });
      });
      sim.spawn('user', function* (): Body {
        yield* detachSteps(device, NO_PASID, first);
        yield 'attaches another';
        attachNext();
      });
    });
    expect(runs).toBeGreaterThan(10);
  });

  it('C5, C13: against a replace has exactly one answer, and the next goes to the new handler', () => {
    const codes = new Set<string>();
    exploreOrThrow((sim) => {
      const world = new RacyWorld(sim);
      const { device } = world;
      const [user, other] = [new User(sim), new User(sim)];
      claimDmaOwner(device, world);
      const from = world.fake.domain(device, { flags: 0, faultHandler: user });
      const to = world.fake.domain(device, { flags: 0, faultHandler: other });
      const handle = new AttachHandle();
      attach(device, NO_PASID, from, handle);
      sim.spawn('device', world.requests(2));
      const isOver = (): boolean => world.answers.length === 2;
      sim.spawn('user', user.answers(isOver));
      sim.spawn('other', other.answers(isOver));
      sim.spawn('replace', function* (): Body {
        expect(yield* replaceSteps(device, NO_PASID, to, new AttachHandle())).toBe(0);
        endFaults(handle);
      });
      return () => {
        world.check(2);
        expect(handle.faults.size).toBe(0);
        expect(device.faultParam?.partial).toEqual([]);
        codes.add(world.answers.map(({ code }) => code).join(' '));
      };
    }, BOUNDS);
    expect([...codes].toSorted()).toEqual(['0 0', '0 1', '1 0']);
  });

  it('C11, C13: against unregister and register is answered in its own life only, though its group index repeats', () => {
    exploreOrThrow((sim) => {
      const world = new RacyWorld(sim);
      const { device } = world;
      expect(registerFaultHandler(device, 2, { report: () => 0 })).not.toBeTypeOf('number');
      let late = 0;
      const register = () => {
        const told: FaultRecord[] = [];
        const user = {
          report: (records: readonly FaultRecord[]) => {
            told.push(...records);
            return 0;
          },
        };
        const registration = registerFaultHandler(device, NO_PASID, user);
        if (typeof registration === 'number') throw new Error('refused');
        return { registration, told };
      };
      const lives = [register()];
      sim.spawn('device', world.requests(2));
      sim.spawn('user', function* (): Body {
        for (;;) {
          const isOver = (): boolean => world.answers.length === 2;
          const life = () => lives.find(({ told }) => told.length > 0);
          yield until('a record', () => life() !== undefined || isOver());
          const found = life();
          if (!found) return;
          found.told.length = 0;
          yield 'thinks';
          const before = world.answers.length;
          const rc = found.registration.respond({ pasid: 0, grpid: 1, code: SUCCESS });
          // A life that is over answers nothing.
          if (rc !== 0) late++;
          if (rc !== 0 && found !== lives.at(-1)) expect(world.answers.length).toBe(before);
        }
      });
      sim.spawn('restart', function* (): Body {
        yield 'start';
        lives[0]?.registration.unregister();
        yield 'between the lives';
        lives.push(register());
      });
      return () => {
        world.check(2);
        expect(world.core.spuriousPageResponses).toBe(late);
      };
    }, BOUNDS);
  });

  it('C10, C13: against its time-out has exactly one answer', () => {
    const seen = new Set<number | undefined>();
    exploreOrThrow((sim) => {
      const world = new RacyWorld(sim, { pageResponseTimeout: 20_000 });
      const { device } = world;
      const user = new User(sim);
      claimDmaOwner(device, world);
      const domain = world.fake.domain(device, { flags: 0, faultHandler: user });
      attach(device, NO_PASID, domain, new AttachHandle());
      sim.spawn('device', world.requests(1));
      sim.spawn('user', function* (): Body {
        yield until('a group', () => user.taken.length > 0);
        const [group] = user.taken;
        yield delay(17_000);
        yield 'almost';
        yield 'there';
        group?.respond(SUCCESS);
      });
      sim.spawn('others', function* (): Body {
        for (let i = 0; i < 4; i++) yield 'something else';
      });
      return () => {
        world.check(1);
        seen.add(world.answers[0]?.code);
        const timedOut = world.answers[0]?.code === INVALID ? 1 : 0;
        expect(world.core.timedOutPageRequests).toBe(timedOut);
        expect(world.core.spuriousPageResponses).toBe(timedOut);
      };
    }, BOUNDS);
    expect(seen).toEqual(new Set([SUCCESS, INVALID]));
  });

  it('B11, C13: in the address space of a process against exit and unbind has exactly one answer', () => {
    exploreOrThrow((sim) => {
      const world = new RacyWorld(sim);
      const { device, core } = world;
      const mm = ProcessMm.create(world.fake.ram);
      if (typeof mm === 'number') throw new Error('no memory');
      mm.mmap(AT, 0x1000, { readable: true });
      const bond = core.sva.bind(device, mm);
      if (typeof bond === 'number') throw new Error('no bond');
      sim.spawn('device', world.requests(2, bond.pasid));
      sim.spawn('process', function* (): Body {
        yield 'start';
        mm.exit();
      });
      sim.spawn('driver', function* (): Body {
        const { mutex } = device.group ?? {};
        yield* whenFree(mutex ? [mutex, core.sva.mutex] : [], () => core.sva.unbind(bond));
      });
      return () => {
        world.check(2);
        expect(core.sva.pasidsInUse).toBe(0);
        expect(core.spuriousPageResponses).toBe(0);
        expect(device.faultParam).toBeUndefined();
      };
    }, BOUNDS);
  });
});
