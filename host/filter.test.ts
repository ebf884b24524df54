// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from 'vitest';
import { archOf } from './arch.ts';
import { buildFilter, type FilterOptions } from './filter.ts';

const [LOAD, JEQ, JGE, JSET, AND, RET] = [0x20, 0x15, 0x35, 0x45, 0x54, 0x06];
const verdicts = new Map([
  [0x7fff0000, 'allow'],
  [0x7fc00000, 'notify'],
  [0x00050001, 'EPERM'],
]);

/** Runs the program as Linux would, on one system call. */
function judge(
  program: Uint8Array,
  call: { nr: number; audit?: number; ip?: number; args?: readonly number[] },
): string {
  const data = new DataView(new ArrayBuffer(64));
  data.setInt32(0, call.nr, true);
  data.setUint32(4, call.audit ?? 0xc000003e, true);
  data.setBigUint64(8, BigInt(call.ip ?? 0x400000), true);
  (call.args ?? []).forEach((value, i) => data.setBigInt64(16 + i * 8, BigInt(value), true));
  const view = new DataView(program.buffer, program.byteOffset);
  let accumulator = 0;
  for (let pc = 0; ; pc += 1) {
    expect(pc * 8).toBeLessThan(program.length);
    const [code, jt, jf] = [
      view.getUint16(pc * 8, true),
      view.getUint8(pc * 8 + 2),
      view.getUint8(pc * 8 + 3),
    ];
    const k = view.getUint32(pc * 8 + 4, true);
    const jump = (taken: boolean): void => void (pc += taken ? jt : jf);
    if (code === LOAD) accumulator = data.getUint32(k, true);
    else if (code === AND) accumulator = (accumulator & k) >>> 0;
    else if (code === JEQ) jump(accumulator === k);
    else if (code === JGE) jump(accumulator >= k);
    else if (code === JSET) jump((accumulator & k) !== 0);
    else if (code === RET) return verdicts.get(k) ?? `return ${k}`;
    else throw new Error(`instruction ${code}`);
  }
}

describe.each(['x64', 'arm64'])('the filter of %s', (name) => {
  const arch = archOf(name);
  if (arch === undefined) throw new Error('no table');
  const { calls, audit } = arch;
  const options: FilterOptions = {
    range: { low: 768, high: 1024 },
    fast: false,
    allowIoUring: false,
    asRoot: false,
    ownCode: { start: 0x7f12_0000_1000, end: 0x7f12_0020_0000 },
  };
  const full = buildFilter(arch, options);
  const fast = buildFilter(arch, { ...options, fast: true, allowIoUring: true });
  const see = (nr: number, ...args: number[]): string => judge(full, { nr, audit, args });

  test('picks ioctls by their type', () => {
    expect(see(calls.ioctl, 3, 0x3b81)).toBe('notify');
    expect(see(calls.ioctl, 3, 0xc0203bff)).toBe('notify');
    expect(see(calls.ioctl, 3, 0x5401)).toBe('allow');
  });

  test('sees every path', () => {
    for (const nr of [calls.openat, calls.openat2, calls.faccessat, calls.readlinkat]) {
      expect(see(nr, -100)).toBe('notify');
    }
  });

  test('tells stat by path from fstat of a descriptor', () => {
    expect(see(calls.newfstatat, -100, 0, 0, 0)).toBe('notify');
    expect(see(calls.newfstatat, 5, 0, 0, 0x100)).toBe('notify');
    expect(see(calls.newfstatat, 5, 0, 0, 0x1000)).toBe('allow');
    expect(see(calls.newfstatat, 900, 0, 0, 0x1000)).toBe('notify');
    expect(see(calls.newfstatat, -100, 0, 0, 0x1000)).toBe('notify');
    expect(see(calls.statx, 5, 0, 0x1000)).toBe('allow');
    expect(see(calls.statx, 1023, 0, 0x1000)).toBe('notify');
  });

  test('sees I/O on the range only, its ends included', () => {
    for (const nr of [calls.read, calls.write, calls.lseek, calls.fstat, calls.dup]) {
      expect(see(nr, 767)).toBe('allow');
      expect(see(nr, 768)).toBe('notify');
      expect(see(nr, 1023)).toBe('notify');
      expect(see(nr, 1024)).toBe('allow');
      expect(see(nr, -1)).toBe('allow');
    }
  });

  test('sees what replaces or closes a descriptor of the range', () => {
    expect(see(calls.close, 900)).toBe('notify');
    expect(see(calls.close, 5)).toBe('allow');
    expect(see(calls.dup3, 5, 6)).toBe('allow');
    expect(see(calls.dup3, 5, 2000)).toBe('allow');
    expect(see(calls.dup3, 5, 768)).toBe('notify');
    expect(see(calls.dup3, 2000, 768)).toBe('notify');
    expect(see(calls.dup3, 768, 5)).toBe('notify');
    expect(see(calls.dup3, 768, 2000)).toBe('notify');
    expect(see(calls.close_range, 3, -1)).toBe('notify');
    expect(see(calls.close_range, 3, 768)).toBe('notify');
    expect(see(calls.close_range, 3, 767)).toBe('allow');
  });

  test('sees duplication and F_GETFL among fcntl commands', () => {
    expect(see(calls.fcntl, 800, 0)).toBe('notify');
    expect(see(calls.fcntl, 800, 1030)).toBe('notify');
    expect(see(calls.fcntl, 800, 3)).toBe('notify');
    expect(see(calls.fcntl, 800, 4)).toBe('allow');
    expect(see(calls.fcntl, 5, 0)).toBe('allow');
    expect(see(calls.fcntl, 2000, 0)).toBe('allow');
  });

  test('sees mappings over others and of the range', () => {
    expect(see(calls.mmap, 0, 4096, 3, 0x22, -1)).toBe('allow');
    expect(see(calls.mmap, 0, 4096, 3, 0x32, -1)).toBe('notify');
    expect(see(calls.mmap, 0, 4096, 3, 0x1, 800)).toBe('notify');
    expect(see(calls.mmap, 0, 4096, 3, 0x100022, -1)).toBe('allow');
  });

  test('sees advice that throws pages away, not other advice', () => {
    for (const advice of [4, 8, 9, 24]) expect(see(calls.madvise, 0, 0, advice)).toBe('notify');
    for (const advice of [0, 1, 3, 5, 14, 20])
      expect(see(calls.madvise, 0, 0, advice)).toBe('allow');
  });

  test('lets memory calls of our own C library through, and only those', () => {
    const at = (nr: number, ip: number): string => judge(full, { nr, audit, ip });
    expect(at(calls.munmap, 0x7f12_0000_1000)).toBe('allow');
    expect(at(calls.munmap, 0x7f12_001f_ffff)).toBe('allow');
    expect(at(calls.munmap, 0x7f12_0020_0000)).toBe('notify');
    expect(at(calls.munmap, 0x7f12_0000_0fff)).toBe('notify');
    expect(at(calls.munmap, 0x7f13_0000_1000)).toBe('notify');
    expect(at(calls.execve, 0x7f12_0000_1000)).toBe('notify');
  });

  test('without memory traps sees exec and exit still', () => {
    const judged = (nr: number): string => judge(fast, { nr, audit });
    expect([calls.munmap, calls.brk, calls.mremap].map(judged)).toEqual([
      'allow',
      'allow',
      'allow',
    ]);
    expect([calls.execve, calls.exit, calls.exit_group].map(judged)).toEqual([
      'notify',
      'notify',
      'notify',
    ]);
  });

  test('refuses io_uring unless it is allowed', () => {
    expect(see(calls.io_uring_setup)).toBe('EPERM');
    expect(judge(fast, { nr: calls.io_uring_setup, audit })).toBe('allow');
  });

  test('lets other instruction sets through', () => {
    expect(judge(full, { nr: calls.ioctl, audit: 0x40000003, args: [3, 0x3b81] })).toBe('allow');
  });
});
