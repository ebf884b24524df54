// SPDX-License-Identifier: Apache-2.0
import {
  allContexts,
  allIotlb,
  contextOfDevice,
  iotlbOfPages,
} from '../../../src/drivers/intel/descriptors.ts';
import type { Domain, PagingDomain } from '../../../src/iommu/domain.ts';
import { FRAME_SIZE } from '../../../src/memory/frame.ts';
import type { Behind, Bench } from './bench.ts';
import { DATA_PAGES, type DeviceName, type Space, type Step } from './sequence.ts';

const LARGE_LG2 = 9;
const FRAMES = 2;
const noDrains = { reads: false, writes: false };

type Attached = Space | 'identity' | 'nothing';

/**
 * One machine on which a sequence is played. What each access must find is worked out beside it from plain maps of pages, so that two
 * machines that are wrong in the same way do not agree.
 */
export class Player {
  readonly bench: Bench;
  readonly #domains: readonly [PagingDomain, PagingDomain];
  readonly #pages: readonly [PageMap, PageMap] = [new Map(), new Map()];
  readonly #data: number;
  readonly #large: number;
  readonly #attached: Record<DeviceName, Attached> = { edu: 'nothing', test: 'nothing' };

  constructor(bench: Bench) {
    this.bench = bench;
    this.#domains = [bench.paging(), bench.paging()];
    this.#data = bench.page(3);
    this.#large = bench.page(LARGE_LG2);
  }

  /** Plays a step; what is wrong with its outcome, or undefined. */
  play(step: Step): string | undefined {
    switch (step.kind) {
      case 'map':
        this.#map(step.space, step.page, step.pages, this.#data + step.data * FRAMES, step.prot);
        return undefined;
      case 'map large':
        this.#map(step.space, step.at, 2 ** LARGE_LG2, this.#large, 3);
        return undefined;
      case 'unmap':
        return this.#unmap(step.space, step.page, step.pages);
      case 'attach':
        return this.#attach(step.device, step.to);
      case 'dma':
        return this.#dma(step);
      case 'invalidate':
        return this.#invalidate(step);
    }
  }

  #map(space: Space, page: number, pages: number, frame: number, prot: number): void {
    const map = this.#pages[space];
    const isTaken = Array.from({ length: pages }, (_, i) => map.has(page + i)).includes(true);
    const domain = this.#domains[space];
    this.bench.map(domain, BigInt(page) << 12n, frame, pages * FRAMES, prot);
    if (isTaken) return;
    for (let i = 0; i < pages; i++) map.set(page + i, { frame: frame + i * FRAMES, prot });
  }

  /** Ends at the first page that is not mapped, as the driver does. */
  #unmap(space: Space, page: number, pages: number): string | undefined {
    const map = this.#pages[space];
    const domain = this.#domains[space];
    const before = this.bench.lines.length;
    this.bench.unmap(domain, BigInt(page) << 12n, pages * FRAMES);
    let gone = 0;
    while (gone < pages && map.delete(page + gone)) gone++;
    const line = this.bench.lines[before] ?? '';
    return line.endsWith(` = ${gone * FRAMES}`) ? undefined : `${gone} pages should have gone`;
  }

  #attach(device: DeviceName, to: Attached): string | undefined {
    const { bench } = this;
    const from = this.#attached[device];
    if (to === 'nothing' && from === 'nothing') return undefined;
    bench.attach(bench[device], this.#domainOf(to));
    this.#attached[device] = to;
    // QEMU looks again only when the context entry is forgotten: the scenario 'pass-through ends' shows that alone.
    if (from !== 'identity' || !bench.tables.isScalable) return undefined;
    const { sourceId } = bench[device].requester;
    const rc = bench.invalidate((at) => contextOfDevice(at, 0, sourceId));
    return rc === 0 ? undefined : `the context entry is not forgotten: ${rc}`;
  }

  #domainOf(to: Attached): Domain | undefined {
    if (to === 'nothing') return undefined;
    return to === 'identity' ? this.bench.identity() : this.#domains[to];
  }

  #dma({ device, access, page, offset }: Step & { readonly kind: 'dma' }): string | undefined {
    const { bench } = this;
    const behind = bench[device];
    const attached = this.#attached[device];
    // Of pass-through, only pages for data are tried.
    const frame = this.#data + (page % DATA_PAGES) * FRAMES;
    const iova =
      BigInt(attached === 'identity' ? frame * FRAME_SIZE : page * 4096) + BigInt(offset);
    const found = attached === 'identity' ? { frame, prot: 3 } : this.#find(attached, page);
    const isAllowed = found !== undefined && (found.prot & (access === 'load' ? 1 : 2)) !== 0;
    const expected = isAllowed ? found.frame : undefined;
    if (attached === 'nothing') return this.#blocked(behind, iova);
    const reached = access === 'load' ? bench.load(iova) : bench.store(behind, iova);
    if (reached === expected) return undefined;
    return `it should have reached ${bench.nameOfPage(expected)}`;
  }

  #find(attached: Space | 'nothing', page: number): Mapped | undefined {
    return attached === 'nothing' ? undefined : this.#pages[attached].get(page);
  }

  #blocked(behind: Behind, iova: bigint): string | undefined {
    const { bench } = this;
    const isDone =
      behind === bench.edu ? bench.probe(iova) : bench.store(behind, iova) !== undefined;
    return isDone ? 'it should have been blocked' : undefined;
  }

  #invalidate({ what, page }: Step & { readonly kind: 'invalidate' }): string | undefined {
    const rc = this.bench.invalidate((at) => {
      if (what === 'all') allIotlb(at, noDrains);
      else if (what === 'contexts') allContexts(at);
      else iotlbOfPages(at, 2, { page, maskLg2: 0 }, false, noDrains);
    });
    return rc === 0 ? undefined : `the invalidation is refused: ${rc}`;
  }
}

interface Mapped {
  readonly frame: number;
  readonly prot: number;
}

type PageMap = Map<number, Mapped>;
