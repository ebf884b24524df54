// SPDX-License-Identifier: Apache-2.0
/**
 * The seccomp program that picks the system calls we see. Everything else keeps its full speed: Linux notes at
 * installation which numbers are always allowed and does not even run the program for them.
 */
import type { Arch, OldSyscallName, SyscallName } from './arch.ts';
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  F_DUPFD,
  F_DUPFD_CLOEXEC,
  F_GETFL,
  MAP_FIXED,
  RLIMIT_MEMLOCK,
  discardingAdvice,
} from './uapi.ts';

/** Our descriptors in a client have numbers in `[low, high)`. */
export interface FdRange {
  readonly low: number;
  readonly high: number;
}

export interface FilterOptions {
  readonly range: FdRange;
  /** Leave out the calls that only matter for pages that are pinned (all but exec and exit). */
  readonly fast: boolean;
  readonly allowIoUring: boolean;
  /** See who asks for and sets RLIMIT_MEMLOCK. */
  readonly asRoot: boolean;
  /** Our own C library: memory calls made from there are the spawning thread's and are let through. */
  readonly ownCode: CodeRange | undefined;
}

/** Addresses of instructions, `[start, end)`, within one 4 GiB stretch. */
export interface CodeRange {
  readonly start: number;
  readonly end: number;
}

type Name = SyscallName | OldSyscallName;

// linux/filter.h: class, mode and operation of classic BPF.
const LOAD = 0x20;
const JUMP_EQUAL = 0x15;
const JUMP_GREATER_EQUAL = 0x35;
const JUMP_ANY_BIT = 0x45;
const AND = 0x54;
const RETURN = 0x06;
const RET_ALLOW = 0x7fff0000;
const RET_NOTIFY = 0x7fc00000;
const RET_ERRNO_EPERM = 0x00050001;

const OFFSET_NR = 0;
const OFFSET_ARCH = 4;
const OFFSET_IP_LOW = 8;
const OFFSET_IP_HIGH = 12;
const offsetOfArgument = (index: number): number => 16 + 8 * index;

/** What one system call must satisfy to be seen. Tests look at the low 32 bits: descriptors and flags are ints. */
type Test =
  | { readonly is: 'always' }
  | { readonly is: 'refused' }
  /** Argument `index` is a descriptor of our range. */
  | { readonly is: 'ours'; readonly index: number }
  | {
      readonly is: 'ours-and-one-of';
      readonly index: number;
      readonly other: number;
      readonly values: readonly number[];
    }
  | { readonly is: 'one-of'; readonly index: number; readonly values: readonly number[] }
  /** Two descriptors, one of which is of our range. */
  | { readonly is: 'either-ours'; readonly index: number; readonly other: number }
  /** A descriptor at or above the bottom of our range. */
  | { readonly is: 'reaches'; readonly index: number }
  /** A descriptor of our range, or any bit of `bits` in another argument. */
  | {
      readonly is: 'ours-or-bits';
      readonly index: number;
      readonly other: number;
      readonly bits: number;
    }
  /** stat by path: not where AT_EMPTY_PATH makes it an fstat of somebody else's descriptor. */
  | { readonly is: 'by-path'; readonly flags: number }
  /** Bits 8-15 of the argument: the type of an ioctl. */
  | { readonly is: 'ioctl-type'; readonly index: number; readonly type: number };

const always: Test = { is: 'always' };
const ours = (index: number): Test => ({ is: 'ours', index });

const base: readonly (readonly [Name, Test])[] = [
  ['ioctl', { is: 'ioctl-type', index: 1, type: 0x3b }],
  ['openat', always],
  ['open', always],
  ['openat2', always],
  ['creat', always],
  ['newfstatat', { is: 'by-path', flags: 3 }],
  ['statx', { is: 'by-path', flags: 2 }],
  ['stat', always],
  ['lstat', always],
  ['access', always],
  ['faccessat', always],
  ['faccessat2', always],
  ['readlink', always],
  ['readlinkat', always],
  ['getxattr', always],
  ['lgetxattr', always],
  ['listxattr', always],
  ['llistxattr', always],
  ['read', ours(0)],
  ['write', ours(0)],
  ['readv', ours(0)],
  ['writev', ours(0)],
  ['pread64', ours(0)],
  ['pwrite64', ours(0)],
  ['preadv', ours(0)],
  ['pwritev', ours(0)],
  ['preadv2', ours(0)],
  ['pwritev2', ours(0)],
  ['lseek', ours(0)],
  ['fstat', ours(0)],
  ['fsync', ours(0)],
  ['fdatasync', ours(0)],
  ['dup', ours(0)],
  ['dup2', { is: 'either-ours', index: 0, other: 1 }],
  ['dup3', { is: 'either-ours', index: 0, other: 1 }],
  ['close', ours(0)],
  ['close_range', { is: 'reaches', index: 1 }],
  [
    'fcntl',
    { is: 'ours-and-one-of', index: 0, other: 1, values: [F_DUPFD, F_DUPFD_CLOEXEC, F_GETFL] },
  ],
  ['execve', always],
  ['execveat', always],
  ['exit', always],
  ['exit_group', always],
];

const fastOnly: readonly (readonly [Name, Test])[] = [
  ['mmap', ours(4)],
  ['ftruncate', ours(0)],
  ['fallocate', ours(0)],
];

const pages: readonly (readonly [Name, Test])[] = [
  ['mmap', { is: 'ours-or-bits', index: 4, other: 3, bits: MAP_FIXED }],
  ['munmap', always],
  ['mremap', always],
  ['brk', always],
  ['madvise', { is: 'one-of', index: 2, values: discardingAdvice }],
  ['process_madvise', { is: 'one-of', index: 3, values: discardingAdvice }],
  ['shmdt', always],
  ['ftruncate', always],
  ['truncate', always],
  ['fallocate', always],
];

const lockLimits: readonly (readonly [Name, Test])[] = [
  ['prlimit64', { is: 'one-of', index: 1, values: [RLIMIT_MEMLOCK] }],
  ['setrlimit', { is: 'one-of', index: 0, values: [RLIMIT_MEMLOCK] }],
  ['getrlimit', { is: 'one-of', index: 0, values: [RLIMIT_MEMLOCK] }],
];

/** The instructions as `struct sock_filter` bytes. */
export function buildFilter(arch: Arch, options: FilterOptions): Uint8Array {
  const program = new Program();
  program.emit(LOAD, 0, 0, OFFSET_ARCH);
  program.emit(JUMP_EQUAL, 1, 0, arch.audit);
  program.emit(RETURN, 0, 0, RET_ALLOW);
  program.emit(LOAD, 0, 0, OFFSET_NR);
  const emit = (
    rules: readonly (readonly [Name, Test])[],
    before: readonly Instruction[],
  ): void => {
    for (const [name, test] of rules) {
      const nr = (arch.calls as Readonly<Partial<Record<Name, number>>>)[name];
      if (nr === undefined) continue;
      const block = [...before, ...testBlock(test, options.range)];
      program.emit(JUMP_EQUAL, 0, block.length, nr);
      for (const item of block) program.emit(...item);
    }
  };
  emit(base, []);
  if (options.fast) emit(fastOnly, []);
  else emit(pages, options.ownCode === undefined ? [] : allowFrom(options.ownCode));
  if (options.asRoot) emit(lockLimits, []);
  if (!options.allowIoUring) emit([['io_uring_setup', { is: 'refused' }]], []);
  program.emit(RETURN, 0, 0, RET_ALLOW);
  return program.bytes();
}

type Instruction = readonly [code: number, ifTrue: number, ifFalse: number, k: number];

/** The rest of the program for one system call; ends in a return on every path. */
function testBlock(test: Test, range: FdRange): Instruction[] {
  const allow: Instruction = [RETURN, 0, 0, RET_ALLOW];
  const notify: Instruction = [RETURN, 0, 0, RET_NOTIFY];
  const load = (index: number): Instruction => [LOAD, 0, 0, offsetOfArgument(index)];
  switch (test.is) {
    case 'always':
      return [notify];
    case 'refused':
      return [[RETURN, 0, 0, RET_ERRNO_EPERM]];
    case 'ours':
      return [
        load(test.index),
        [JUMP_GREATER_EQUAL, 0, 2, range.low],
        [JUMP_GREATER_EQUAL, 1, 0, range.high],
        notify,
        allow,
      ];
    case 'either-ours':
      return [
        load(test.index),
        [JUMP_GREATER_EQUAL, 0, 1, range.low],
        [JUMP_GREATER_EQUAL, 0, 3, range.high],
        load(test.other),
        [JUMP_GREATER_EQUAL, 0, 2, range.low],
        [JUMP_GREATER_EQUAL, 1, 0, range.high],
        notify,
        allow,
      ];
    case 'reaches':
      return [load(test.index), [JUMP_GREATER_EQUAL, 0, 1, range.low], notify, allow];
    case 'ours-and-one-of': {
      const match = oneOf(load(test.other), test.values, notify, allow);
      return [
        load(test.index),
        [JUMP_GREATER_EQUAL, 0, match.length - 1, range.low],
        [JUMP_GREATER_EQUAL, match.length - 2, 0, range.high],
        ...match,
      ];
    }
    case 'one-of':
      return oneOf(load(test.index), test.values, notify, allow);
    case 'ours-or-bits':
      return [
        load(test.other),
        [JUMP_ANY_BIT, 3, 0, test.bits],
        load(test.index),
        [JUMP_GREATER_EQUAL, 0, 2, range.low],
        [JUMP_GREATER_EQUAL, 1, 0, range.high],
        notify,
        allow,
      ];
    case 'by-path':
      return [
        load(test.flags),
        [JUMP_ANY_BIT, 0, 4, AT_EMPTY_PATH],
        load(0),
        [JUMP_EQUAL, 2, 0, AT_FDCWD >>> 0],
        [JUMP_GREATER_EQUAL, 0, 2, range.low],
        [JUMP_GREATER_EQUAL, 1, 0, range.high],
        notify,
        allow,
      ];
    case 'ioctl-type':
      return [
        load(test.index),
        [AND, 0, 0, 0xff00],
        [JUMP_EQUAL, 0, 1, test.type << 8],
        notify,
        allow,
      ];
  }
}

/** Returns where the call comes from `code`, and falls through elsewhere. */
function allowFrom(code: CodeRange): Instruction[] {
  return [
    [LOAD, 0, 0, OFFSET_IP_HIGH],
    [JUMP_EQUAL, 0, 4, Math.floor(code.start / 0x1_0000_0000)],
    [LOAD, 0, 0, OFFSET_IP_LOW],
    [JUMP_GREATER_EQUAL, 0, 2, code.start % 0x1_0000_0000],
    [JUMP_GREATER_EQUAL, 1, 0, code.end % 0x1_0000_0000],
    [RETURN, 0, 0, RET_ALLOW],
  ];
}

function oneOf(
  load: Instruction,
  values: readonly number[],
  notify: Instruction,
  allow: Instruction,
): Instruction[] {
  // Each match jumps over the remaining compares and over `allow`, which is where the last miss falls.
  const compares = values.map((value, index): Instruction => [
    JUMP_EQUAL,
    values.length - index,
    0,
    value,
  ]);
  return [load, ...compares, allow, notify];
}

class Program {
  private readonly list: Instruction[] = [];

  emit(code: number, ifTrue: number, ifFalse: number, k: number): void {
    this.list.push([code, ifTrue, ifFalse, k]);
  }

  bytes(): Uint8Array {
    const view = new DataView(new ArrayBuffer(this.list.length * 8));
    this.list.forEach(([code, ifTrue, ifFalse, k], index) => {
      view.setUint16(index * 8, code, true);
      view.setUint8(index * 8 + 2, ifTrue);
      view.setUint8(index * 8 + 3, ifFalse);
      view.setUint32(index * 8 + 4, k >>> 0, true);
    });
    return new Uint8Array(view.buffer);
  }
}
