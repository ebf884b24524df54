// SPDX-License-Identifier: Apache-2.0
import { IntervalNode, type IntervalTree } from '../base/interval_tree.ts';

/** The last address of any I/O address space. */
export const IOVA_LAST = 2n ** 64n - 1n;

/** An address as people read it. */
export const hex = (value: bigint): string => `0x${value.toString(16)}`;

/** `[0x1000, 0x1fff]` */
export const range = (start: bigint, last: bigint): string => `[${hex(start)}, ${hex(last)}]`;

/** IOVA that must stay available to the client: IOMMU_IOAS_ALLOW_IOVAS. */
export class Allowed extends IntervalNode<bigint> {}

/** IOVA that nothing may be mapped to, and who asked for that (a device, a domain, a test). */
export class Reserved extends IntervalNode<bigint> {
  readonly owner: object | undefined;

  constructor(start: bigint, last: bigint, owner: object | undefined) {
    super(start, last);
    this.owner = owner;
  }
}

/** What an automatic IOVA must satisfy. */
export interface IovaRequest {
  readonly length: bigint;
  /** A power of two. */
  readonly alignment: bigint;
  /** Offset of the first byte in its page, which the IOVA keeps. */
  readonly pageOffset: bigint;
}

type Tree = IntervalTree<bigint, IntervalNode<bigint>>;

/** The first address in `[start, last]` that fits, or undefined. A stretch of one byte never does, as on Linux. */
function fit(start: bigint, last: bigint, request: IovaRequest): bigint | undefined {
  const { length, alignment, pageOffset } = request;
  const up = start + alignment - 1n;
  if (up > IOVA_LAST) return undefined;
  const aligned = (up & ~(alignment - 1n)) | pageOffset;
  return aligned >= last || last - aligned < length - 1n ? undefined : aligned;
}

/** The first IOVA in `[start, last]` that neither a mapping nor a reservation uses. */
function findUnused(
  areas: Tree,
  reserved: Tree,
  start: bigint,
  last: bigint,
  request: IovaRequest,
): bigint | undefined {
  for (let from = start; from <= last;) {
    const hole = areas.firstHole(from, last, request.length);
    if (!hole) return undefined;
    for (const span of reserved.spans(hole.start, hole.last)) {
      const found = span.used ? undefined : fit(span.start, span.last, request);
      if (found !== undefined) return found;
    }
    from = hole.last + 1n;
  }
  return undefined;
}

/**
 * The IOVA that Linux would choose: lowest first, from the second page to the last but one, inside the allowed ranges where
 * there are any. Source: iopt_alloc_iova() of io_pagetable.c.
 * @returns undefined where nothing fits
 */
export function findIova(
  areas: Tree,
  reserved: Tree,
  allowed: Tree,
  request: IovaRequest,
  pageSize: bigint,
): bigint | undefined {
  const first = pageSize;
  const last = IOVA_LAST - pageSize;
  const spans = allowed.size ? allowed.spans(first, last) : [{ used: true, start: first, last }];
  for (const span of spans) {
    const start = span.used ? fit(span.start, span.last, request) : undefined;
    if (start === undefined) continue;
    const found = findUnused(areas, reserved, start, span.last, request);
    if (found !== undefined) return found;
  }
  return undefined;
}
