// SPDX-License-Identifier: Apache-2.0
/**
 * The driver for VT-d in process: on a unit that carries out its queue at once and translates nothing, which is what the driver and the
 * core cost, and on the model of the hardware. Goals: a map and unmap <= 1.5 us a call, <= 20 ns an entry of 4 KiB in batches of 256, one
 * submission for each unmap. Run it after a build: `node bench/intel.bench.mjs`.
 */
import { FakeRig, Rig } from '../dist/src/drivers/intel/fake_rig.js';
import { ECAP_LEGACY } from '../dist/src/drivers/intel/fake_vtd.js';
import { Capabilities, LEGACY, SCALABLE } from '../dist/src/hw/vtd/capabilities.js';
import { VtdUnit } from '../dist/src/hw/vtd/vtd_unit.js';

const RW = 3;
const ROUNDS = 9;
/** A multiple of 4 KiB and of nothing more. */
const ODD_FRAME = 2 ** 30 + 2;

/** @param {string} what @param {number} ns @param {number} [goal] */
function row(what, ns, goal) {
  const verdict = goal === undefined ? '' : `goal ${goal}${ns <= goal ? '' : ': MISSED'}`;
  console.log(`${ns.toFixed(ns < 100 ? 1 : 0).padStart(9)} ns  ${what.padEnd(66)} ${verdict}`);
}

/** @param {() => void} body */
function best(body) {
  let least = Infinity;
  for (let round = 0; round < ROUNDS; round++) {
    const start = performance.now();
    body();
    least = Math.min(least, (performance.now() - start) * 1e6);
  }
  return least;
}

/** @param {string} mode @param {object} options @param {number} mapped pages beside those that are timed */
function calls(mode, options, mapped) {
  const rig = new FakeRig(options);
  rig.vtd.isQuiet = true;
  timed(mode, rig, mapped);
}

/** The same on the model of the hardware. @param {string} mode @param {typeof SCALABLE} description @param {number} mapped */
function modelCalls(mode, description, mapped) {
  const caps = Capabilities.of(description);
  timed(`${mode}, model`, new Rig((sim, ram) => new VtdUnit({ sim, ram, caps }).hardware), mapped);
}

/** @param {string} mode @param {Rig<import('../dist/src/kernel/hardware.js').Hardware>} rig @param {number} mapped */
function timed(mode, rig, mapped) {
  const device = rig.add(0x318);
  const domain = rig.paging(device);
  rig.attach(device, domain);
  domain.map(2n ** 40n, ODD_FRAME, mapped * 2, RW);
  const iova = 0x2000_0000n;
  const count = 2000;
  const before = rig.unit.queue.submissions;
  const ns = best(() => {
    for (let i = 0; i < count; i++) {
      domain.map(iova, ODD_FRAME, 2, RW);
      domain.unmap(iova, 2);
    }
  });
  row(`${mode}: map and unmap 4 KiB, beside ${mapped} pages`, ns / count, 3000);
  const { mapping, unmapping } = apart(domain, iova, count);
  row(`${mode}:   map alone`, mapping / count, 1500);
  row(`${mode}:   unmap alone`, unmapping / count, 1500);
  const submissions = (rig.unit.queue.submissions - before) / (2 * count * ROUNDS);
  if (submissions !== 1) throw new Error(`${submissions} submissions for each unmap`);
  const batch = best(() => {
    for (let i = 0; i < 200; i++) {
      domain.map(iova, ODD_FRAME, 512, RW);
      domain.unmap(iova, 512);
    }
  });
  row(`${mode}: the same, an entry of 256 a call`, batch / 200 / 256, 40);
}

/**
 * Map calls and unmap calls, each timed by itself: the best of the rounds.
 * @param {import('../dist/src/iommu/domain.js').PagingDomain} domain @param {bigint} iova @param {number} count
 */
function apart(domain, iova, count) {
  const at = (/** @type {number} */ i) => iova + 0x2000n * BigInt(i);
  const times = { mapping: Infinity, unmapping: Infinity };
  const timed = (
    /** @type {keyof typeof times} */ name,
    /** @type {(i: number) => void} */ body,
  ) => {
    const start = performance.now();
    for (let i = 0; i < count; i++) body(i);
    times[name] = Math.min(times[name], (performance.now() - start) * 1e6);
  };
  for (let round = 0; round < ROUNDS; round++) {
    timed('mapping', (i) => void domain.map(at(i), ODD_FRAME, 2, RW));
    timed('unmapping', (i) => void domain.unmap(at(i), 2));
  }
  return times;
}

/** @param {number} count of devices on one domain: a flush is one tag for all of them */
function devices(count) {
  const rig = new FakeRig({});
  rig.vtd.isQuiet = true;
  const all = Array.from({ length: count }, (_, i) => rig.add(i + 8));
  const [first] = all;
  if (!first) throw new Error('no device');
  const [one, two] = [rig.paging(first), rig.paging(first)];
  for (const device of all) rig.attach(device, one);
  let next = two;
  const ns = best(() => {
    for (const device of all) rig.replace(device, next);
    next = next === two ? one : two;
  });
  row(`scalable: replace, a device, of ${count}`, ns / count);
  const { mapping, unmapping } = apart(next === one ? two : one, 0x2000_0000n, 2000);
  row(`scalable: map 4 KiB in a domain of ${count} devices`, mapping / 2000, 1500);
  row(`scalable: unmap`, unmapping / 2000, 1500);
}

for (const mapped of [1e3, 1e6]) {
  calls('legacy', { ecap: ECAP_LEGACY }, mapped);
  calls('scalable', {}, mapped);
  modelCalls('legacy', LEGACY, mapped);
  modelCalls('scalable', SCALABLE, mapped);
}
for (const count of [1, 64, 4096]) devices(count);
