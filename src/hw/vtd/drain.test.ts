// SPDX-License-Identifier: Apache-2.0
/** The steps by which software drains page requests (VTD-5.10 §7.10), in every order of whole steps with a device and what it sent. */
import { describe, expect, it } from 'vitest';
import { exploreOrThrow } from '../../sim/explore.ts';
import type { Sim } from '../../sim/sim.ts';
import { until } from '../../sim/task.ts';
import { SHARING } from './capabilities.ts';
import { Rig, SID } from './test_rig.ts';

const [PQT, PQA] = [0xc8, 0xd0];
const PASS = 4;
const PD = 0x80n;

/**
 * A device sends two page requests, then no more; software invalidates its cache, which it completes, and waits. What comes into the queue
 * after that would be taken for the next user's.
 */
function drains(bits: bigint, invalidates = true): number {
  const program = (sim: Sim) => {
    const rig = new Rig(SHARING, true, undefined, sim);
    const { deviceTlbs, pageRequests } = rig.unit;
    rig.put(rig.context, SID * 4, BigInt(rig.directory) * 4096n + 0b11101n);
    rig.pasid(5, PASS);
    rig.mmio.write64(PQA, BigInt(rig.page()) * 4096n);
    rig.on();
    rig.queueOn();
    let sent = 0;
    let forgets: number | undefined;
    deviceTlbs.send = (_, { itag }) => {
      forgets = itag;
    };
    const send = (group: number): void => {
      const pasid = { value: 5, execute: false, privileged: false };
      const asks = { read: true, write: false, last: true };
      pageRequests.receive(SID, { pasid, address: 0x5000n, group, ...asks });
      sent++;
    };
    sim.spawn('device', function* () {
      yield 'a fault';
      send(0);
      yield 'another fault';
      // Completions come behind what was sent before (VTD-5.10 §7.7).
      send(1);
      if (!invalidates) return;
      yield until('an invalidation', () => forgets !== undefined);
      deviceTlbs.complete(SID, { itags: 1 << (forgets ?? 0), count: 1 });
    });
    let drained = -1n;
    sim.spawn('software', function* () {
      yield 'begin';
      const wait = [0x1_0000_0025n + bits, BigInt(rig.status) * 4096n] as const;
      const ask = [0x5_0000_0008n + (BigInt(SID) << 16n), 2n ** 63n - 4096n + 0x800n] as const;
      if (invalidates) rig.enqueue(ask, wait);
      else rig.enqueue(wait);
      yield until('the wait', () => rig.get(rig.status, 0) === 1n);
      drained = rig.mmio.read64(PQT);
    });
    return () => {
      if (sent !== 2) throw new Error('the device did not send');
      const isLate = pageRequests.isOnTheWay || rig.mmio.read64(PQT) !== drained;
      if (isLate) throw new Error('a page request after the drain');
    };
  };
  return exploreOrThrow(program, { maxPreemptions: 0 });
}

describe('Draining page requests', () => {
  it('leaves none on its way', () => {
    expect(drains(PD)).toBeGreaterThan(100);
  });

  it('without the flag of the wait (PD) does not', () => {
    expect(() => drains(0n)).toThrow('a page request after the drain');
  });

  it('without an invalidation that the device completes does not', () => {
    expect(() => drains(PD, false)).toThrow('a page request after the drain');
  });
});
