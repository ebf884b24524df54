// SPDX-License-Identifier: Apache-2.0
import { type Body, until } from '../../../sim/task.ts';
import type { InvalidateRequest } from '../../ats_messages.ts';
import { runEngine } from '../engine.ts';
import { Mode, Register } from './registers.ts';
import type { TestDevice } from './test_device.ts';

/** Invalidations of the device's cache, and when their completions are sent. */
export class Invalidations {
  readonly #device: TestDevice;
  /** Done, with a completion that waits for RELEASE. */
  #held: number[] = [];

  constructor(device: TestDevice) {
    this.#device = device;
  }

  get held(): number {
    return this.#held.length;
  }

  take(request: InvalidateRequest): void {
    const { sim, function: fn } = this.#device;
    runEngine(sim, `iommu_test ${fn.bdf} invalidation`, this.#carryOut(request));
  }

  release(): void {
    const held = this.#held;
    this.#held = [];
    for (const itag of held) this.complete((1 << itag) >>> 0);
  }

  /** As often as the mode says, whether or not anybody waits. */
  complete(itags: number): void {
    const { registers, function: fn } = this.#device;
    const count = ((registers.get(Register.mode) >>> Mode.COUNT_SHIFT) & 7) + 1;
    for (let i = 0; i < count; i++) fn.atsPort.completeInvalidation({ itags, count });
  }

  /** No completion waits. */
  forget(): void {
    this.#held = [];
  }

  /** Forgets, waits for what is in use, completes: after that no DMA goes by what is forgotten. */
  *#carryOut(request: InvalidateRequest): Body {
    const { registers, atc, life } = this.#device;
    const isAlive = life.fromNow();
    registers.count(Register.invalidations);
    const mode = registers.get(Register.mode);
    const gone = mode & Mode.STALE ? [] : atc.invalidate(request);
    yield 'forgotten';
    yield until('DMA by forgotten translations', () => gone.every(({ uses }) => uses === 0));
    if (!isAlive() || mode & Mode.DROP) return;
    if (mode & Mode.HOLD) this.#held.push(request.itag);
    else this.complete((1 << request.itag) >>> 0);
  }
}
