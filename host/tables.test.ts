// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { archOf } from './arch.ts';
import * as uapi from './uapi.ts';

const hasGcc = process.platform === 'linux' && spawnSync('gcc', ['--version']).status === 0;

/** What names mean in C, by the preprocessor; those that it leaves as they are mean nothing here. */
function meanings(headers: readonly string[], names: readonly string[]): Map<string, number> {
  const includes = headers.map((header) => `#include <${header}>`);
  const lines = names.map((name) => `"${name}" ${name}`);
  const { stdout } = spawnSync('gcc', ['-E', '-P', '-D_GNU_SOURCE', '-'], {
    input: [...includes, ...lines].join('\n'),
    encoding: 'utf8',
  });
  const found = new Map<string, number>();
  for (const match of stdout.matchAll(/^"(\w+)" (0x[\da-f]+|\d+)$/gim)) {
    const text = match[2] ?? '';
    const value = /^0\d/.test(text) ? Number.parseInt(text, 8) : Number(text);
    found.set(match[1] ?? '', value);
  }
  return found;
}

test.skipIf(!hasGcc)('system call numbers are those of the header', () => {
  const calls: Readonly<Record<string, number>> = archOf(process.arch)?.calls ?? {};
  const names = Object.keys(calls);
  const lines = names.map((name) => `@${name}: __NR_${name}`);
  const { stdout } = spawnSync('gcc', ['-E', '-P', '-'], {
    input: ['#include <asm/unistd.h>', ...lines].join('\n'),
    encoding: 'utf8',
  });
  for (const [name, nr] of Object.entries(calls)) expect(stdout).toContain(`@${name}: ${nr}\n`);
  expect(names.length).toBeGreaterThan(50);
});

test.skipIf(!hasGcc)('arm64 has the generic numbers', () => {
  const calls: Readonly<Record<string, number>> = archOf('arm64')?.calls ?? {};
  const lines = Object.keys(calls).map((name) => `@${name}: __NR_${name}`);
  const { stdout } = spawnSync(
    'gcc',
    [
      '-E',
      '-P',
      '-D__BITS_PER_LONG=64',
      '-D__ARCH_WANT_NEW_STAT',
      '-D__ARCH_WANT_SET_GET_RLIMIT',
      '-',
    ],
    { input: ['#include <asm-generic/unistd.h>', ...lines].join('\n'), encoding: 'utf8' },
  );
  for (const [name, nr] of Object.entries(calls)) expect(stdout).toContain(`@${name}: ${nr}\n`);
});

test.skipIf(!hasGcc)('constants are those of the headers', () => {
  const headers = [
    'fcntl.h',
    'linux/seccomp.h',
    'linux/prctl.h',
    'linux/mman.h',
    'linux/falloc.h',
    'linux/magic.h',
    'sys/inotify.h',
    'poll.h',
  ];
  const found = meanings(headers, Object.keys(uapi));
  let compared = 0;
  for (const [name, value] of Object.entries(uapi)) {
    const real = found.get(name);
    if (real === undefined || typeof value !== 'number') continue;
    expect([name, value]).toEqual([name, real]);
    compared += 1;
  }
  expect(compared).toBeGreaterThan(20);
});
