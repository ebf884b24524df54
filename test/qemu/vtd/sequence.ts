// SPDX-License-Identifier: Apache-2.0
import { Prng } from '../../../src/base/prng.ts';
import { Prot } from '../../../src/iommu/domain.ts';
import { READ_WRITE } from './bench.ts';

/** Which of two devices, and which of two address spaces. */
export type DeviceName = 'edu' | 'test';
export type Space = 0 | 1;

/** Addresses are in pages of 4 KiB from `FIRST_PAGE` on; memory is one of the pages for data. */
export type Step =
  | { readonly kind: 'map'; space: Space; page: number; pages: number; data: number; prot: number }
  | { readonly kind: 'map large'; space: Space; at: number }
  | { readonly kind: 'unmap'; space: Space; page: number; pages: number }
  | { readonly kind: 'attach'; device: DeviceName; to: Space | 'identity' | 'nothing' }
  | {
      readonly kind: 'dma';
      device: DeviceName;
      access: 'load' | 'store';
      page: number;
      offset: number;
    }
  | { readonly kind: 'invalidate'; what: 'all' | 'contexts' | 'page'; page: number };

export const STEPS = 30;
/** The pages of small mappings lie on both sides of a border of 2 MiB; large ones follow. */
export const FIRST_PAGE = 512 - 8;
export const SMALL_PAGES = 16;
export const LARGE_PAGES: readonly number[] = [1024, 1536];
/** Pages for data, on end; a mapping of some stays inside. */
export const DATA_PAGES = 8;

/** A sequence, from its seed. It begins with both devices attached, so that most accesses find something. */
export function draw(seed: number): Step[] {
  const prng = new Prng(seed);
  const steps: Step[] = [
    { kind: 'attach', device: 'edu', to: 0 },
    { kind: 'attach', device: 'test', to: prng.pick([0, 1]) },
    { kind: 'map', space: 0, page: FIRST_PAGE + 4, pages: 8, data: 0, prot: READ_WRITE },
    { kind: 'map', space: 1, page: FIRST_PAGE + 2, pages: 6, data: 2, prot: READ_WRITE },
  ];
  while (steps.length < STEPS) steps.push(drawStep(prng));
  return steps;
}

function drawStep(prng: Prng): Step {
  const space = prng.pick<Space>([0, 1]);
  const device = prng.pick<DeviceName>(['edu', 'test']);
  const page = FIRST_PAGE + prng.below(SMALL_PAGES);
  const dice = prng.below(100);
  if (dice < 22) {
    const data = prng.below(DATA_PAGES);
    const most = Math.min(8, DATA_PAGES - data, FIRST_PAGE + SMALL_PAGES - page);
    const prot = prng.below(4) === 0 ? Prot.READ : READ_WRITE;
    return { kind: 'map', space, page, pages: 1 + prng.below(most), data, prot };
  }
  if (dice < 28) return { kind: 'map large', space, at: prng.pick(LARGE_PAGES) };
  if (dice < 40) {
    if (prng.below(4) === 0)
      return { kind: 'unmap', space, page: prng.pick(LARGE_PAGES), pages: 512 };
    const pages = 1 + prng.below(Math.min(4, FIRST_PAGE + SMALL_PAGES - page));
    return { kind: 'unmap', space, page, pages };
  }
  if (dice < 46)
    return { kind: 'attach', device, to: prng.pick([0, 0, 1, 1, 'identity', 'nothing']) };
  if (dice < 50) return { kind: 'invalidate', what: prng.pick(['all', 'contexts', 'page']), page };
  const access = device === 'edu' && prng.below(3) > 0 ? 'load' : 'store';
  const isLarge = prng.below(5) === 0;
  const at = isLarge ? prng.pick(LARGE_PAGES) + prng.below(512) : page;
  return { kind: 'dma', device, access, page: at, offset: prng.below(1024) * 4 };
}

/** In words, for who looks for a difference. */
export const stepInWords = (step: Step): string => JSON.stringify(step);
