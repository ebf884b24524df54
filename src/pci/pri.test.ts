// SPDX-License-Identifier: Apache-2.0
/** The page request interface through its registers: offsets and bits written out by hand. */
import { beforeEach, describe, expect, it } from 'vitest';
import { exploreOrThrow } from '../sim/explore.ts';
import type { PageRequestMessage } from './ats_messages.ts';
import { GroupResponse } from './ats_messages.ts';
import { FakePath } from './fake_path.ts';
import { PciFunction } from './function.ts';

const [SUCCESS, INVALID, FAILURE] = [
  GroupResponse.SUCCESS,
  GroupResponse.INVALID,
  GroupResponse.FAILURE,
];
const [RF, UPRGI, STOPPED, PASID_REQUIRED] = [1, 2, 0x100, 0x8000];

const identity = {
  ...{ vendorId: 1, deviceId: 2, revisionId: 0 },
  ...{ classCode: 0, subsystemVendorId: 0, subsystemId: 0 },
};

/** A physical function with a virtual one, both bus masters; the interface is at 0x140, after SR-IOV. */
function setUp() {
  const path = new FakePath();
  const sent: PageRequestMessage[] = [];
  path.ats = {
    requestTranslation: () => ({ status: 'UNSUPPORTED_REQUEST' }),
    takesTranslated: () => false,
    invalidateCompletion: () => undefined,
    pageRequest: (_device, message) => void sent.push(message),
  };
  const at = (fn: number) => ({ domain: 0, bus: 0, device: 3, function: fn });
  const heard: string[] = [];
  const hear = (who: string) => ({
    onGroupResponse: ({ group, code }: { group: number; code: number }) =>
      heard.push(`${who} ${group}: ${code}`),
    onPageRequestsForgotten: () => heard.push(`${who} forgotten`),
  });
  const fn = new PciFunction(
    {
      ...{ address: at(0), identity, express: {}, pasid: {}, pri: { capacity: 4 } },
      sriov: { totalVfs: 1, deviceId: 3 },
      ...hear('pf'),
    },
    path,
  );
  const vf = new PciFunction(
    { address: at(1), identity, express: {}, physicalFunction: fn, ...hear('vf') },
    path,
  );
  fn.config.write(4, 2, 4);
  vf.config.write(4, 2, 4);
  fn.pasid?.enable(true);
  const base = fn.pri?.at ?? 0;
  const control = (value: number): void => fn.config.write(base + 4, 2, value);
  const status = (): number => fn.config.read(base + 6, 2);
  const allow = (requests: number): void => fn.config.write(base + 0xc, 4, requests);
  const ask = (group: number, more: Partial<PageRequestMessage> = {}, from = fn) =>
    from.atsPort.pageRequest({
      ...{ pasid: undefined, address: 0x1000n, read: true, write: false, last: true, group },
      ...more,
    });
  const answer = (group: number, code: GroupResponse = SUCCESS, pasid?: number, to = fn): void =>
    to.groupResponse({ group, code, pasid });
  return { fn, vf, sent, heard, control, status, allow, ask, answer, base };
}

describe('the page request interface', () => {
  let it_: ReturnType<typeof setUp>;
  beforeEach(() => {
    it_ = setUp();
    it_.allow(2);
  });

  it('is stopped at first, and sends nothing before it is enabled', () => {
    const { fn, base, status, ask, sent } = it_;
    expect(fn.config.read(base, 2)).toBe(0x13);
    expect(fn.config.read(base + 8, 4)).toBe(4);
    expect(status()).toBe(STOPPED | PASID_REQUIRED);
    expect(ask(1)).toBe('page requests are off');
    expect(sent).toEqual([]);
  });

  it('sends as many as it is allowed, and one more for each answer', () => {
    const { control, ask, answer, sent, heard, fn } = it_;
    control(1);
    expect([ask(1), ask(2), ask(3)]).toEqual([
      undefined,
      undefined,
      'as many page requests are outstanding as are allowed',
    ]);
    answer(2, INVALID);
    expect(ask(3)).toBeUndefined();
    expect(sent.map(({ group }) => group)).toEqual([1, 2, 3]);
    expect(heard).toEqual(['pf 2: 1']);
    expect(fn.pri?.outstanding).toBe(2);
  });

  it('takes an allocation above its capacity as its capacity', () => {
    const { control, allow, ask } = it_;
    allow(0xffff_ffff);
    control(1);
    expect([1, 2, 3, 4].map((group) => ask(group))).toEqual(Array(4).fill(undefined));
    expect(ask(5)).toBeDefined();
  });

  it('counts every request of a group, and ends them with one answer', () => {
    const { control, ask, answer, fn } = it_;
    control(1);
    ask(1, { last: false });
    ask(1);
    expect(fn.pri?.outstanding).toBe(2);
    answer(1);
    expect(fn.pri?.outstanding).toBe(0);
  });

  it('lets a stop marker through without credit: nothing answers it', () => {
    const { control, ask, fn, sent } = it_;
    control(1);
    ask(1);
    ask(2);
    const pasid = { value: 7, execute: false, privileged: false };
    expect(ask(0, { pasid, read: false, address: 0n })).toBeUndefined();
    expect(sent).toHaveLength(3);
    expect(fn.pri?.outstanding).toBe(2);
  });

  it.each([
    ['to an unknown group', 5, undefined],
    ['to a group that has its answer', 1, undefined],
    ['with another PASID', 2, 8],
    ['without the PASID of the request', 2, undefined],
  ])('notes an answer %s, and passes it on to nobody', (_what, group, pasid) => {
    const { control, ask, answer, heard, status, fn } = it_;
    control(1);
    ask(1);
    ask(2, { pasid: { value: 7, execute: false, privileged: false } });
    answer(1);
    heard.length = 0;
    answer(group, SUCCESS, pasid);
    expect(status() & UPRGI).toBe(UPRGI);
    expect(heard).toEqual([]);
    expect(fn.pri?.outstanding).toBe(1);
    fn.config.write(it_.base + 6, 2, UPRGI);
    expect(status() & UPRGI).toBe(0);
    answer(2, SUCCESS, 7);
    expect(heard).toEqual(['pf 2: 0']);
  });

  it('once disabled sends nothing, takes the answers that are due, and is stopped with the last', () => {
    const { control, ask, answer, heard, status } = it_;
    control(1);
    expect(status() & STOPPED).toBe(0);
    ask(1);
    ask(2);
    control(0);
    expect(ask(3)).toBe('page requests are off');
    answer(1);
    expect(status() & STOPPED).toBe(0);
    answer(2);
    expect(status() & STOPPED).toBe(STOPPED);
    expect(heard).toEqual(['pf 1: 0', 'pf 2: 0']);
  });

  it('when reset forgets what is outstanding: answers are unexpected then', () => {
    const { control, ask, answer, heard, status, fn } = it_;
    control(1);
    ask(1, { last: false });
    control(0);
    control(2);
    expect(fn.config.read(it_.base + 4, 2)).toBe(0);
    expect(status() & STOPPED).toBe(STOPPED);
    answer(1);
    expect(heard).toEqual(['pf forgotten', 'vf forgotten']);
    expect(status() & UPRGI).toBe(UPRGI);
  });

  it('ignores a reset while it is enabled', () => {
    const { control, ask, fn, heard } = it_;
    control(1);
    ask(1);
    control(3);
    expect(fn.pri?.outstanding).toBe(1);
    expect(fn.pri?.enabled).toBe(true);
    expect(heard).toEqual([]);
  });

  it('stops with a FAILURE, for the virtual functions too, until it is enabled again', () => {
    const { control, ask, answer, vf, status } = it_;
    control(1);
    ask(1);
    answer(1, FAILURE);
    expect(status() & RF).toBe(RF);
    expect(ask(2, {}, vf)).toBe('a response failure has stopped page requests');
    control(0);
    control(1);
    expect(status() & RF).toBe(0);
    expect(ask(2, {}, vf)).toBeUndefined();
  });

  it('is shared by virtual functions: credit together, groups apart', () => {
    const { control, ask, answer, vf, heard } = it_;
    control(1);
    ask(1);
    expect(ask(1, {}, vf)).toBeUndefined();
    expect(ask(2, {}, vf)).toBeDefined();
    answer(1, INVALID, undefined, vf);
    answer(1, SUCCESS);
    expect(heard).toEqual(['vf 1: 1', 'pf 1: 0']);
  });

  it('forgets the requests of a virtual function that is reset, and no others', () => {
    const { control, ask, vf, fn, heard } = it_;
    control(1);
    ask(1);
    ask(1, {}, vf);
    vf.reset();
    expect(fn.pri?.outstanding).toBe(1);
    expect(heard).toEqual(['vf forgotten']);
    fn.reset();
    expect(fn.pri?.outstanding).toBe(0);
  });

  it.each([
    ['a group above 511', { group: 512 }],
    ['an address inside a page', { address: 0x1001n }],
    ['an address beyond 64 bits', { address: 2n ** 64n }],
  ])('has no message for %s', (_what, more) => {
    it_.control(1);
    expect(it_.ask(1, more)).toBe('no such message can be');
    expect(it_.sent).toEqual([]);
  });

  it('takes any value in any register without harm', () => {
    const { fn, base, ask, answer } = it_;
    for (const at of [4, 6, 8, 0xc])
      for (const value of [0xffff_ffff, 0, 3, 1, 2]) {
        fn.config.write(base + at, 4, value);
        ask(1);
        answer(1);
      }
    fn.reset();
    expect(fn.pri?.outstanding).toBe(0);
    expect(fn.config.read(base + 8, 4)).toBe(4);
  });
});

describe('a page request against disable and reset, in every order', () => {
  it('loses no credit, gets at most one answer, and is stopped only when nothing is owed', () => {
    const seen = { answered: 0, forgotten: 0, refused: 0 };
    const runs = exploreOrThrow((sim) => {
      const world = setUp();
      const { fn, ask, answer, control, status, sent, heard } = world;
      world.allow(2);
      control(1);
      let refused = 0;
      sim.spawn('device', function* () {
        for (const group of [1, 2]) {
          if (ask(group)) refused++;
          yield 'asked';
        }
      });
      sim.spawn('iommu', function* () {
        for (let i = 0; i < 2; i++) {
          const message = sent[i];
          if (message) answer(message.group);
          yield 'answered';
        }
      });
      sim.spawn('software', function* () {
        control(0);
        yield 'disabled';
        if (!(status() & STOPPED)) control(2);
        yield 'reset';
        control(1);
      });
      return () => {
        const answered = heard.filter((line) => line.includes(':'));
        if (new Set(answered).size !== answered.length) throw new Error('answered twice');
        const forgotten = heard.filter((line) => line === 'pf forgotten').length;
        seen.answered += answered.length;
        seen.forgotten += forgotten;
        seen.refused += refused;
        // What is outstanding now was sent, and neither answered nor forgotten.
        const owed = fn.pri?.outstanding ?? -1;
        if (owed < 0 || owed + answered.length > sent.length) throw new Error(`${owed} owed`);
        if (forgotten === 0 && owed + answered.length !== sent.length)
          throw new Error('credit lost');
        control(0);
        if (((status() & STOPPED) !== 0) !== (owed === 0)) throw new Error('stopped is wrong');
      };
    });
    expect(runs).toBeGreaterThan(50);
    expect(Math.min(seen.answered, seen.forgotten, seen.refused)).toBeGreaterThan(0);
  });
});
