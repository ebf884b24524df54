// SPDX-License-Identifier: Apache-2.0
import type { Sim } from '../sim/sim.ts';
import { encodeEntry } from './ats_entry.ts';
import {
  type AtsTranslator,
  GroupResponse,
  type InvalidateCompletion,
  type PageRequestMessage,
  type TranslationCompletion,
  type TranslationRequest,
} from './ats_messages.ts';
import type { FakePath } from './fake_path.ts';
import type { PciFunction } from './function.ts';
import { Invalidator } from './invalidator.ts';

/** For tests: the ATS side of a {@link FakePath}. Pages are 4 KiB here, two frames each, and of every PASID. */
export class FakeAts implements AtsTranslator {
  readonly requests: PageRequestMessage[] = [];
  /** False: translation requests are unsupported, translated ones refused. */
  isOn = true;
  invalidator: Invalidator | undefined = undefined;
  readonly #pages = new Map<bigint, { frame: number; write: boolean }>();
  readonly #sim: Sim;
  #fn: PciFunction | undefined = undefined;

  constructor(sim: Sim, path: FakePath) {
    this.#sim = sim;
    path.ats = this;
  }

  /** The function behind it, ready: a bus master with all that it has turned on. */
  connect(fn: PciFunction, timeout?: number): void {
    this.#fn = fn;
    fn.config.write(4, 2, 6);
    fn.ats?.enable(true);
    fn.pasid?.enable(true);
    fn.pri?.enable(fn.pri.capacity);
    const depth = fn.ats?.queueDepth ?? 1;
    this.invalidator = new Invalidator(this.#sim, fn, {
      depth,
      ...(timeout !== undefined && { timeout }),
    });
  }

  map(iova: bigint, frame: number, write = true): void {
    this.#pages.set(iova, { frame, write });
  }

  /** Takes a page away from translations; what is cached is not told. */
  unmap(iova: bigint): void {
    this.#pages.delete(iova);
  }

  answer(group: number, code: GroupResponse = GroupResponse.SUCCESS, pasid?: number): void {
    this.#fn?.groupResponse({ group, code, pasid });
  }

  requestTranslation(_device: unknown, request: TranslationRequest): TranslationCompletion {
    if (!this.isOn) return { status: 'UNSUPPORTED_REQUEST' };
    const page = this.#pages.get(request.iova);
    const entry = encodeEntry({
      start: BigInt(page?.frame ?? 0) * 2048n,
      sizeLg2: 12,
      read: page !== undefined,
      write: page?.write === true && !request.noWrite,
      execute: false,
      privileged: false,
      global: false,
      nonSnooped: false,
      untranslatedOnly: false,
    });
    return { status: 'SUCCESS', entry };
  }

  takesTranslated(): boolean {
    return this.isOn;
  }

  invalidateCompletion(_device: unknown, completion: InvalidateCompletion): void {
    this.invalidator?.complete(completion);
  }

  pageRequest(_device: unknown, message: PageRequestMessage): void {
    this.requests.push(message);
  }
}
