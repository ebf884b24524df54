// SPDX-License-Identifier: Apache-2.0
// Runs a program under the compiled supervisor with a small device, for tests: node harness.mjs OPTIONS_JSON PROGRAM ARG...
import { run } from '../../dist/host/run.js';

/** type ';', number 0xF0: a structure {u32 size, u32 a, u64 b, ...}; answers b = a + 1 and returns 0. */
class EchoFile {
  name = '/dev/iommu';
  recording = false;
  buffer = new Uint8Array(64);
  view = new DataView(this.buffer.buffer);
  ioctl(task, cmd, arg) {
    const done = (value, why = '') => ({ value, why, call: undefined });
    const size = this.buffer.subarray(0, 4);
    if (!task.mm.copyIn(arg, size)) return done(-14, 'size is not readable');
    const bytes = this.buffer.subarray(0, Math.min(this.view.getUint32(0, true), 64));
    if (!task.mm.copyIn(arg, bytes)) return done(-14, 'structure is not readable');
    this.view.setUint32(8, this.view.getUint32(4, true) + 1, true);
    if (!task.mm.copyOut(arg, this.buffer.subarray(0, 16))) return done(-14, 'not writable');
    return done(0);
  }
  release() {}
}
const options = JSON.parse(process.argv[2]);
const device = { path: '/dev/iommu', mode: 0o660, rdev: { major: 10, minor: 122 }, open: () => new EchoFile() };
const t0 = performance.now();
const result = await run({ command: process.argv.slice(3), devices: [device], ...options });
if (result.why) console.error(result.why);
if (options.stats) console.error(JSON.stringify({ ms: performance.now() - t0, calls: [...result.stats.calls] }));
process.exitCode = result.exitStatus;
