// SPDX-License-Identifier: Apache-2.0
import { createRequire } from 'node:module';
import type Koffi from 'koffi';
import { Arena } from './arena.ts';
import { HostError } from './host_error.ts';

type Fn<A extends number[]> = (...args: A) => number;

/** The C library of this process, with pointers as numbers. A call returns what C returns; `errno()` tells why it failed. */
export interface Libc {
  readonly ioctl: Fn<[fd: number, request: number, argument: number]>;
  readonly poll: Fn<[fds: number, count: number, timeoutMs: number]>;
  readonly read: Fn<[fd: number, buffer: number, count: number]>;
  readonly close: Fn<[fd: number]>;
  readonly pread: Fn<[fd: number, buffer: number, count: number, offset: number]>;
  readonly pwrite: Fn<[fd: number, buffer: number, count: number, offset: number]>;
  readonly processVmReadv: Fn<
    [pid: number, local: number, locals: number, remote: number, remotes: number, flags: number]
  >;
  readonly processVmWritev: Fn<
    [pid: number, local: number, locals: number, remote: number, remotes: number, flags: number]
  >;
  readonly call2: Fn<[nr: number, a: number, b: number]>;
  readonly call3: Fn<[nr: number, a: number, b: number, c: number]>;
  readonly call6: Fn<
    [nr: number, a: number, b: number, c: number, d: number, e: number, f: number]
  >;
  readonly fcntl: Fn<[fd: number, command: number, argument: number]>;
  readonly epollWait: Fn<[fd: number, events: number, count: number, timeoutMs: number]>;
  readonly waitpid: Fn<[pid: number, status: number, options: number]>;
  readonly mmap: Fn<
    [address: number, length: number, prot: number, flags: number, fd: number, offset: number]
  >;
  readonly munmap: Fn<[address: number, length: number]>;
  errno(): number;
  /** The bytes at an address, not a copy. */
  view(address: number, length: number): ArrayBuffer;
  newArena(sizeBytes: number): Arena;
}

let loaded: Libc | undefined;

/** Loads koffi and binds the functions, once. Throws HostError where koffi's binary is missing for this machine. */
export function openLibc(): Libc {
  loaded ??= bind(loadKoffi());
  return loaded;
}

function loadKoffi(): typeof Koffi {
  // By require, not import: the load happens when a run starts, not when the module is read, and its failure is ours to explain.
  try {
    return createRequire(import.meta.url)('koffi') as typeof Koffi;
  } catch (error) {
    const why = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error);
    throw new HostError(
      `the npm package koffi, which makes system calls for Node, cannot be loaded (${why}): run npm install on this machine`,
    );
  }
}

function bind(koffi: typeof Koffi): Libc {
  // null is the process itself: the C library that Node already uses, glibc or musl.
  const library = koffi.load(null);
  const bound = <A extends number[]>(name: string, result: string, args: string[]): Fn<A> =>
    library.func(name, result, args);
  const word = 'intptr_t';
  return {
    ioctl: bound('ioctl', 'int', ['int', 'ulong', word]),
    poll: bound('poll', 'int', [word, 'ulong', 'int']),
    read: bound('read', word, ['int', word, 'size_t']),
    close: bound('close', 'int', ['int']),
    pread: bound('pread', word, ['int', word, 'size_t', word]),
    pwrite: bound('pwrite', word, ['int', word, 'size_t', word]),
    processVmReadv: bound('process_vm_readv', word, ['int', word, 'ulong', word, 'ulong', 'ulong']),
    processVmWritev: bound('process_vm_writev', word, [
      'int',
      word,
      'ulong',
      word,
      'ulong',
      'ulong',
    ]),
    call2: bound('syscall', 'long', ['long', word, word]),
    call3: bound('syscall', 'long', ['long', word, word, word]),
    call6: bound('syscall', 'long', ['long', word, word, word, word, word, word]),
    fcntl: bound('fcntl', 'int', ['int', 'int', word]),
    epollWait: bound('epoll_wait', 'int', ['int', word, 'int', 'int']),
    waitpid: bound('waitpid', 'int', ['int', word, 'int']),
    mmap: bound('mmap', word, [word, 'size_t', 'int', 'int', 'int', word]),
    munmap: bound('munmap', 'int', [word, 'size_t']),
    errno: () => koffi.errno(),
    view: (address, length) => koffi.view(BigInt(address), length),
    newArena: (sizeBytes) => new Arena(sizeBytes, (bytes) => koffi.address(bytes)),
  };
}
