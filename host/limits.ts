// SPDX-License-Identifier: Apache-2.0
import { readSmall } from './proc_read.ts';

/** Of one resource; the greatest u64 is no limit. */
export interface Limits {
  readonly soft: bigint;
  readonly hard: bigint;
}

export const UNLIMITED = 0xffff_ffff_ffff_ffffn;

/** A line of /proc/PID/limits, which all may read: prlimit tells only who could set them too. Undefined where there is none. */
export function limitsIn(text: string, name: string): Limits | undefined {
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${name} `));
  const found = line?.slice(name.length).trim().split(/\s+/);
  const [soft, hard] = [found?.[0], found?.[1]].map((word) => {
    if (word === 'unlimited') return UNLIMITED;
    return word !== undefined && /^\d+$/.test(word) ? BigInt(word) : undefined;
  });
  return soft === undefined || hard === undefined ? undefined : { soft, hard };
}

/** Undefined where the process is gone. */
export function limitsOf(pid: number, name: string): Limits | undefined {
  try {
    return limitsIn(readSmall(`/proc/${pid}/limits`), name);
  } catch {
    return undefined;
  }
}
