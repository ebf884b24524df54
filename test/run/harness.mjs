// SPDX-License-Identifier: Apache-2.0
/**
 * Runs a program under the compiled supervisor, with a small device of its own in place of the engine:
 * node harness.mjs OPTIONS_JSON PROGRAM ARG... Options: those of run(), and `log` (a file that gets one JSON line for
 * each event), `engine` (the real one, with its default machine), `tree` (a small tree of files beside the test device).
 */
import { appendFileSync, readdirSync, readlinkSync } from 'node:fs';
import { ErrnoError } from '../../dist/src/base/errno.js';
import { run } from '../../dist/host/run.js';

const { log, engine, tree, ...options } = JSON.parse(process.argv[2]);
const tell = (event) => {
  if (log !== undefined) appendFileSync(log, `${JSON.stringify(event)}\n`);
};
const answer = (value, why = '') => ({ value, why, call: undefined });
const EFAULT = -14;

/**
 * Commands: 0x3bf0 adds one: {u32 size, u32 a, u64 result = a + 1}; 0x3bf1 pins: {u32 size, u32 pages, u64 address},
 * result 1 where the mapping is shared; 0x3bf2 reads the first byte of the pinned page n (its argument), saved or in place; 0x3bf3
 * makes another file and returns its number; 0x3bf4 tells what the argument is as a descriptor: 0 closed, 1 a device,
 * 2 memory, 3 other; 0x3bf5 charges that many pinned pages; 0x3bf6 is a bug.
 */
class TestFile {
  name;
  recording = false;
  pins = [];
  bytes = new Uint8Array(16);
  view = new DataView(this.bytes.buffer);

  constructor(name) {
    this.name = name;
  }

  ioctl(task, cmd, arg) {
    if (cmd === 0x3bf2) return this.readPin(Number(arg));
    if (cmd === 0x3bf3) return this.another(task);
    if (cmd === 0x3bf4) return this.kind(task, Number(arg));
    if (cmd === 0x3bf5) {
      task.mm.locked.pinnedPages += Number(arg);
      return answer(0);
    }
    if (cmd === 0x3bf6) throw new Error('a bug of the test device');
    if (cmd !== 0x3bf0 && cmd !== 0x3bf1) return answer(-25, 'no such command');
    if (!task.mm.copyIn(arg, this.bytes)) return answer(EFAULT, 'not readable');
    if (cmd === 0x3bf1) return this.pin(task);
    this.view.setBigUint64(8, BigInt(this.view.getUint32(4, true)) + 1n, true);
    return task.mm.copyOut(arg, this.bytes) ? answer(0) : answer(EFAULT, 'not writable');
  }

  pin({ mm }) {
    const [pages, start] = [this.view.getUint32(4, true), this.view.getBigUint64(8, true)];
    const shared = mm.mappingAt(start)?.shared;
    const owner = shared?.file ?? mm;
    const first = shared ? shared.offset + start - mm.mappingAt(start).start : start;
    for (let page = 0; page < pages; page += 1) {
      this.pins.push({ owner, at: first + BigInt(page) * 4096n, saved: undefined });
    }
    owner.pinObserver ??= {
      hasPins: () => this.pins.some((pin) => pin.owner === owner),
      release: (from, last) => {
        tell({ release: from.toString(16), last: last.toString(16) });
        for (const pin of this.pins) {
          if (pin.owner !== owner || pin.at < from || pin.at > last || pin.saved) continue;
          pin.saved = read(pin);
        }
      },
      gone: () => {
        tell({ gone: owner === mm ? 'mm' : 'file' });
        for (const pin of this.pins) if (pin.owner === owner) pin.saved ??= 'lost';
      },
    };
    return answer(shared ? 1 : 0);
  }

  readPin(index) {
    const pin = this.pins[index];
    const found = pin?.saved ?? (pin && read(pin));
    return found instanceof Uint8Array ? answer(found[0]) : answer(-5, 'lost');
  }

  another(task) {
    let fd;
    try {
      fd = task.files.reserve();
    } catch (error) {
      return answer(-error.errno, error.message);
    }
    task.files.install(fd, new TestFile('anon_inode:[test]'), { cloexec: true });
    return answer(fd);
  }

  kind(task, fd) {
    const found = task.files.get(fd);
    return answer(found === undefined ? 0 : ['', 'device', 'memory', 'other'].indexOf(found.kind));
  }

  /** As /dev/iommu where nothing is shared: EINVAL, EPERM, ENXIO. */
  mmap(_task, { shared, executable }) {
    if (!shared) return -22;
    return executable ? -1 : -6;
  }

  release() {
    tell({ released: this.name });
  }
}

function read({ owner, at }) {
  const bytes = new Uint8Array(4096);
  const done = owner.readPinned ? owner.readPinned(at, bytes) : owner.read(at, bytes);
  return done ? bytes : 'lost';
}

const devices = engine
  ? engineDevices
  : [
      {
        path: '/dev/iommu',
        mode: 0o660,
        rdev: { major: 10, minor: 125 },
        open: () => new TestFile('/dev/iommu'),
      },
      {
        path: '/dev/vfio/vfio',
        mode: 0o666,
        rdev: { major: 10, minor: 196 },
        open() {
          throw new ErrnoError('ENODEV', 'the test device cannot be opened');
        },
      },
    ];

async function engineDevices() {
  const { serve } = await import('../../dist/cli/devices.js');
  const { Machine } = await import('../../dist/src/machine/machine.js');
  return serve(new Machine());
}

async function withTree() {
  const { TreeBuilder } = await import('../../dist/host/file_tree.js');
  const builder = new TreeBuilder();
  builder.file('/sys/class/iommulator-test/file', 'text');
  return { devices, tree: builder.tree };
}

/** Our descriptors by what they are, those aside that Node opens when it likes to. */
function ownDescriptors() {
  const found = [];
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      found.push(readlinkSync(`/proc/self/fd/${fd}`).replace(/\d+/g, 'N'));
    } catch {
      // The listing's own.
    }
  }
  return found.toSorted();
}
const before = ownDescriptors();
function difference(now, then) {
  const rest = [...then];
  return now.filter((item) => {
    const at = rest.indexOf(item);
    if (at >= 0) rest.splice(at, 1);
    return at < 0;
  });
}
const result = await run({
  devices: tree ? withTree : devices,
  command: process.argv.slice(3),
  observer: {
    opened: (pid, path, value, file, why) =>
      tell({ opened: path, value, why, made: file !== undefined }),
    other: (pid, text) => tell({ other: text }),
  },
  ...options,
});
tell({
  exitStatus: result.exitStatus,
  why: result.why,
  leakedDescriptors: difference(ownDescriptors(), before).filter((item) => item !== '/dev/null')
    .length,
  calls: Object.fromEntries(result.stats.calls),
});
process.exitCode = result.exitStatus;
