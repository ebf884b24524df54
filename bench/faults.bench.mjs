// SPDX-License-Identifier: Apache-2.0
/**
 * Page faults and PASIDs in process: what a page request without an answer costs, and how long a PASID takes to attach and detach. Goals:
 * 1 KiB for each of 10,000 in flight; 3 us for an attach with its detach. Run it after a build: `node --expose-gc bench/faults.bench.mjs`.
 * (Explored orders a minute are printed by src/iommufd/fault_orders.test.ts, the round trip under `run` by `npm run bench`.)
 */
import { FakeRig, Rig } from '../dist/src/drivers/intel/fake_rig.js';
import { ECAP_PASID } from '../dist/src/drivers/intel/fake_vtd.js';
import { MockIommu } from '../dist/src/drivers/mock/mock_iommu.js';
import { attach, detach } from '../dist/src/iommu/attach.js';
import { allocUserDomain } from '../dist/src/iommu/alloc.js';
import { PageRequestFlags } from '../dist/src/iommu/fault.js';
import { AttachHandle } from '../dist/src/iommu/handle.js';
import { reportDeviceFault } from '../dist/src/iommu/io_pgfault.js';
import { claimDmaOwner } from '../dist/src/iommu/ownership.js';
import { IommuCore } from '../dist/src/iommu/core.js';
import { Capabilities, SCALABLE } from '../dist/src/hw/vtd/capabilities.js';
import { VtdUnit } from '../dist/src/hw/vtd/vtd_unit.js';

const ROUNDS = 9;
const COUNT = 5000;
const IN_FLIGHT = 10_000;
const PASID = 5;
const PASID_DEVICE = 4;
const FOR_PASIDS = 8;

/** @param {string} what @param {number} value @param {string} unit @param {number} [goal] */
function row(what, value, unit, goal) {
  const verdict = goal === undefined ? '' : `goal ${goal}${value <= goal ? '' : ': MISSED'}`;
  const figure = value.toFixed(value < 100 ? 2 : 0).padStart(9);
  console.log(`${figure} ${unit.padEnd(3)} ${what.padEnd(60)} ${verdict}`);
}

/** @param {number} rc */
function ok(rc) {
  if (rc !== 0) throw new Error(`errno ${-rc}`);
}

/** @template T @param {T | number} made @returns {T} */
function made(made) {
  if (typeof made === 'number') throw new Error(`errno ${-made}`);
  return made;
}

/** The best of the rounds, in microseconds a call. @param {() => void} body */
function best(body) {
  let least = Infinity;
  for (let round = 0; round < ROUNDS; round++) {
    const start = performance.now();
    for (let i = 0; i < COUNT; i++) body();
    least = Math.min(least, ((performance.now() - start) * 1000) / COUNT);
  }
  return least;
}

function pasidsOfMock() {
  const mock = new MockIommu(new IommuCore());
  const device = made(mock.createDevice(PASID_DEVICE, {}));
  ok(claimDmaOwner(device, mock));
  const domain = made(allocUserDomain(device, { flags: FOR_PASIDS }));
  const us = best(() => {
    ok(attach(device, PASID, domain, new AttachHandle()));
    detach(device, PASID, domain);
  });
  row('PASID attach and detach, test driver', us, 'us', 3);
}

/** @param {string} what @param {Rig<import('../dist/src/kernel/hardware.js').Hardware>} rig @param {number} [goal] */
function pasidsOf(what, rig, goal) {
  const device = rig.add(0x318, { pasidBits: 8 });
  const domain = rig.paging(device);
  if (device.maxPasids <= PASID) throw new Error('the device has no such PASID');
  const us = best(() => {
    ok(attach(device, PASID, domain, new AttachHandle()));
    detach(device, PASID, domain);
  });
  row(`PASID attach and detach, ${what}`, us, 'us', goal);
}

function pasidsOfIntel() {
  const rig = new FakeRig({ ecap: ECAP_PASID });
  rig.vtd.isQuiet = true;
  pasidsOf('driver for VT-d', rig, 3);
  const caps = Capabilities.of(SCALABLE);
  const model = new Rig((sim, ram) => new VtdUnit({ sim, ram, caps }).hardware);
  pasidsOf('driver for VT-d, model of the hardware', model);
}

function inFlight() {
  const mock = new MockIommu(new IommuCore());
  const device = made(mock.createDevice(0, {}));
  ok(claimDmaOwner(device, mock));
  /** @type {object[]} */
  const groups = [];
  const faultHandler = {
    handle: (/** @type {import('../dist/src/iommu/io_pgfault.js').IopfGroup} */ group) => {
      group.dequeue();
      groups.push(group);
      return 0;
    },
  };
  const domain = made(allocUserDomain(device, { flags: 0, faultHandler }));
  ok(attach(device, 0, domain, new AttachHandle()));
  globalThis.gc?.();
  const before = process.memoryUsage().heapUsed;
  for (let grpid = 0; grpid < IN_FLIGHT; grpid++) {
    const request = { flags: PageRequestFlags.LAST_PAGE, pasid: 0, grpid, perm: 1 };
    reportDeviceFault(device, { ...request, addr: BigInt(grpid) << 12n });
  }
  globalThis.gc?.();
  const bytes = (process.memoryUsage().heapUsed - before) / IN_FLIGHT;
  if (groups.length !== IN_FLIGHT) throw new Error(`${groups.length} groups`);
  row('a page request without an answer, of 10,000', bytes, 'B', 1024);
}

pasidsOfMock();
pasidsOfIntel();
if (globalThis.gc) inFlight();
else console.log('  --expose-gc is needed to measure memory');
