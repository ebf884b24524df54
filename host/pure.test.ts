// SPDX-License-Identifier: Apache-2.0
/** Parts of the supervisor that need no client. */
import { describe, expect, test } from 'vitest';
import { archOf } from './arch.ts';
import { HostError } from './host_error.ts';
import { makeDevice, parseMaps } from './mappings.ts';
import {
  type Credentials,
  DEVTMPFS_MINOR,
  type NodeFacts,
  permits,
  statBytes,
  statxBytes,
} from './node_stat.ts';
import { DevicePaths, parseProcPath } from './paths.ts';
import { checkPlatform, type Platform } from './platform.ts';
import { addToStatus } from './proc_status.ts';
import { chooseRange, exitStatusOf } from './run.ts';

describe('platform', () => {
  const good: Platform = {
    os: 'linux',
    arch: 'x64',
    kernel: '6.1.0-13-amd64',
    ptraceScope: 1,
    privileged: false,
  };

  test('a usual machine will do', () => {
    expect(checkPlatform(good).name).toBe('x86-64');
    expect(checkPlatform({ ...good, arch: 'arm64', kernel: '5.19.0' }).name).toBe('arm64');
  });

  test.each([
    [{ os: 'darwin' }, /needs Linux \(this is darwin\)/],
    [{ arch: 'riscv64' }, /x86-64 and arm64 \(this is riscv64\)/],
    [{ kernel: '5.18.19' }, /5\.19 or newer \(this is 5\.18\.19\)/],
    [{ kernel: '4.19.0' }, /5\.19 or newer/],
    [{ ptraceScope: 3 }, /ptrace_scope is 3/],
  ])('%o is refused with a sentence', (change, sentence) => {
    expect(() => checkPlatform({ ...good, ...change })).toThrow(HostError);
    expect(() => checkPlatform({ ...good, ...change })).toThrow(sentence);
  });
});

describe('paths', () => {
  const device = {
    path: '/dev/iommu',
    mode: 0o660,
    rdev: { major: 10, minor: 125 },
    open: () => {
      throw new Error('not opened');
    },
  };
  const paths = new DevicePaths([device]);
  const self = process.pid;
  const find = (path: string, dirfd = -100) => paths.find(self, dirfd, path)?.device.path;

  test.each([
    '/dev/iommu',
    '/dev//iommu',
    '/dev/./iommu',
    '/dev/../dev/iommu',
    '/tmp/../dev/iommu',
  ])('%s is the device', (path) => {
    expect(find(path)).toBe('/dev/iommu');
  });

  test.each([
    '/dev/iommu2',
    '/iommu',
    'iommu',
    '/tmp/iommu',
    '',
    '/',
    '/dev',
    '/no/such/iommu',
    '/dev/null',
  ])('%s is not', (path) => {
    expect(find(path)).toBeUndefined();
  });

  test('a slash at the end asks for a directory', () => {
    expect(paths.find(self, -100, '/dev/iommu//')).toEqual({ device, asDirectory: true });
  });

  test('/proc paths are told apart', () => {
    expect(parseProcPath('/proc/self/fd/1023')).toEqual({ kind: 'fd', pid: undefined, fd: 1023 });
    expect(parseProcPath('/dev/fd/9')).toEqual({ kind: 'fd', pid: undefined, fd: 9 });
    expect(parseProcPath('/proc/77/task/78/fd/3')).toEqual({ kind: 'fd', pid: 78, fd: 3 });
    expect(parseProcPath('/proc/77/status')).toEqual({ kind: 'status', pid: 77 });
    expect(parseProcPath('/proc/thread-self/status')).toEqual({ kind: 'status', pid: undefined });
    for (const other of [
      '/proc/self/fdinfo/3',
      '/proc/status',
      '/tmp/fd/3',
      'status',
      '/proc/self/statm',
    ]) {
      expect(parseProcPath(other)).toBeUndefined();
    }
  });
});

test('/proc/PID/maps is parsed', () => {
  const text = `00400000-00401000 r-xp 00001000 fe:01 4711                      /usr/bin/a b
7f0000000000-7f0000004000 rw-s 00002000 00:01 1029                       /memfd:x (deleted)
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
`;
  expect(parseMaps(text)).toEqual([
    {
      start: 0x400000n,
      end: 0x401000n,
      readable: true,
      writable: false,
      shared: false,
      offset: 0x1000n,
      device: makeDevice(0xfe, 1),
      inode: 4711n,
      name: '/usr/bin/a b',
    },
    {
      start: 0x7f0000000000n,
      end: 0x7f0000004000n,
      readable: true,
      writable: true,
      shared: true,
      offset: 0x2000n,
      device: 1n,
      inode: 1029n,
      name: '/memfd:x (deleted)',
    },
    {
      start: 0xffffffffff600000n,
      end: 0xffffffffff601000n,
      readable: false,
      writable: false,
      shared: false,
      offset: 0n,
      device: 0n,
      inode: 0n,
      name: '[vsyscall]',
    },
  ]);
});

test('device numbers are encoded as stat does', () => {
  expect(makeDevice(10, 125)).toBe(2685n);
  expect(makeDevice(10, 0x12345)).toBe(0x12300a45n);
});

test('/proc/PID/status gets our pages added, and nothing else changed', () => {
  const text = 'Name:\tx\nVmLck:\t       0 kB\nVmPin:\t       8 kB\nVmHWM:\t    1000 kB\n';
  expect(addToStatus(text, 3, 2)).toBe(
    'Name:\tx\nVmLck:\t      12 kB\nVmPin:\t      16 kB\nVmHWM:\t    1000 kB\n',
  );
});

describe('the node', () => {
  const node: NodeFacts = {
    mode: 0o20660,
    rdev: { major: 10, minor: 125 },
    minor: DEVTMPFS_MINOR,
    uid: 1000,
    gid: 1000,
    inode: 700,
    seconds: 5,
  };
  const who = (uid: number, gid = uid, groups: number[] = [], root = false): Credentials => ({
    uid,
    gid,
    groups,
    capable: () => root,
  });

  test.each([
    [who(1000), 6, true],
    [who(1000), 1, false],
    [who(0, 0, [], true), 6, true],
    [who(0, 0, [], true), 1, false],
    [who(7, 1000), 6, true],
    [who(7, 7, [1000]), 4, true],
    [who(7), 4, false],
  ])('permits %o what its mode gives: %i', (caller, wanted, expected) => {
    expect(permits(node, wanted, caller)).toBe(expected);
  });

  test.each(['x64', 'arm64'])('is a character device in struct stat of %s', (name) => {
    const layout = archOf(name)?.stat;
    if (layout === undefined) throw new Error('no layout');
    const view = new DataView(statBytes(layout, node).buffer);
    expect(view.byteLength).toBe(layout.size);
    expect(view.getUint32(layout.mode, true)).toBe(0o20660);
    expect(view.getBigUint64(layout.rdev, true)).toBe(2685n);
    expect(view.getUint32(layout.uid, true)).toBe(1000);
  });

  test('is a character device in struct statx', () => {
    const view = new DataView(statxBytes(node).buffer);
    expect(view.byteLength).toBe(256);
    expect([
      view.getUint16(28, true),
      view.getUint32(128, true),
      view.getUint32(132, true),
    ]).toEqual([0o20660, 10, 125]);
  });
});

test('our descriptors stay below the limit and below 1024', () => {
  expect(chooseRange(1024)).toEqual({ low: 768, high: 1024 });
  expect(chooseRange(1048576)).toEqual({ low: 768, high: 1024 });
  expect(chooseRange(256)).toEqual({ low: 192, high: 256 });
  expect(chooseRange(undefined)).toEqual({ low: 768, high: 1024 });
});

test('wait statuses become exit statuses', () => {
  expect([0, 7 << 8, 9, 0x86].map(exitStatusOf)).toEqual([0, 7, 137, 134]);
});
