// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from 'vitest';
import { cannotRun, client, hasPython, supervise } from './support.ts';

const python = `
import fcntl, os, struct
fd = os.open('/dev/iommu', os.O_RDWR)
s = bytearray(struct.pack('IIQ', 16, 41, 0))
fcntl.ioctl(fd, 0x3bf0, s)
print(struct.unpack('IIQ', s)[2], os.path.exists('/dev/iommu'))
try:
    open('/dev/vfio/vfio')
except OSError as error:
    print(error.errno)
`;
const node = `
const fs = require('node:fs');
const fd = fs.openSync('/dev/iommu', 'r+');
console.log(fs.fstatSync(fd).isCharacterDevice(), fs.existsSync('/dev/iommu'));
require('node:worker_threads');
fs.promises.stat('/dev/iommu').then((s) => console.log(s.rdev));
`;

describe.skipIf(cannotRun)(`clients ${cannotRun}`, () => {
  test('a program without a C library works', () => {
    expect(supervise([client('raw', '-static', '-nostdlib', '-ffreestanding')]).status).toBe(42);
  });

  test.skipIf(!hasPython)('a Python program works', () => {
    expect(supervise(['python3', '-c', python]).stdout).toBe('42 True\n19\n');
  });

  test('a Node program works, with its threads', () => {
    expect(supervise([process.execPath, '-e', node]).stdout).toBe('true true\n2685\n');
  });
});
