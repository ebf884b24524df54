// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import type { CodeRange } from './filter.ts';
import { parseMaps } from './mappings.ts';

const ADDR_NO_RANDOMIZE = 0x0040000;
const GIB4 = 0x1_0000_0000n;

/**
 * Where our C library's code is: the filter tells our spawning thread from clients by it, as theirs is elsewhere by address space
 * randomisation (one chance in 100,000 to overlap, which costs copies of pages that a client gives up, no more). Without
 * randomisation (`setarch -R`) everything would be at one place: undefined, and every memory call is seen.
 */
export function ownCode(): CodeRange | undefined {
  try {
    const personality = Number.parseInt(readFileSync('/proc/self/personality', 'latin1'), 16);
    if (personality & ADDR_NO_RANDOMIZE) return undefined;
    const text = readFileSync('/proc/self/maps', 'latin1');
    const lines = text.split('\n').filter((line) => line.slice(0, 60).includes(' r-xp '));
    const library = parseMaps(lines.join('\n')).find(({ name }) =>
      /\/(libc[.-][^/]*|ld-musl[^/]*)$/.test(name),
    );
    if (library === undefined || library.start / GIB4 !== (library.end - 1n) / GIB4) {
      return undefined;
    }
    return { start: Number(library.start), end: Number(library.end) };
  } catch {
    return undefined;
  }
}
