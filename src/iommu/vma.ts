// SPDX-License-Identifier: Apache-2.0
/** Stretches of a process's addresses. */
import { PAGE_SHIFT, type PageAccess } from '../memory/mm.ts';

/** What a mapping of a process allows; absent: not. */
export interface ProcessProt {
  readonly readable?: boolean;
  readonly writable?: boolean;
  readonly executable?: boolean;
}

/** Bytes, `last` inclusive. */
export interface Range {
  readonly start: bigint;
  readonly last: bigint;
}

/** A stretch that is mapped alike. Linux's `struct vm_area_struct`. */
export interface Vma extends Range {
  readonly readable: boolean;
  readonly writable: boolean;
  readonly executable: boolean;
}

export const pageOf = (address: bigint): number => Number(address >> BigInt(PAGE_SHIFT));

export const overlaps = (a: Range, b: Range): boolean => a.start <= b.last && b.start <= a.last;

export const clip = (vma: Vma, { start, last }: Range): Vma => ({
  ...vma,
  start: vma.start > start ? vma.start : start,
  last: vma.last < last ? vma.last : last,
});

export const full = ({ readable = false, writable = false, executable = false }: ProcessProt) => ({
  readable,
  writable,
  executable,
});

export const allows = (vma: Vma, { read, write, execute }: PageAccess): boolean =>
  !(read && !vma.readable) && !(write && !vma.writable) && !(execute && !vma.executable);
