// SPDX-License-Identifier: Apache-2.0
import { ErrnoError } from '../base/errno.ts';
import type { EventFd } from '../kernel/file.ts';
import type { Intx } from './pci_intx.ts';

/**
 * Low power as a client asks for it (vfio_pci_core.c): the device sleeps whenever nobody uses it, and INTx is masked meanwhile. Here it
 * sleeps as soon as a call ends; Linux takes its time.
 */
export class LowPower {
  readonly #line: Intx;
  #isEntered = false;
  /** Told when the device wakes, which ends low power. */
  #wake: EventFd | undefined;
  /** The line was masked for the time that it sleeps. */
  #isLineMasked = false;

  constructor(line: Intx) {
    this.#line = line;
  }

  /** Throws EINVAL where it was entered already. Takes `wake` over. */
  enter(wake?: EventFd): void {
    if (this.#isEntered) {
      wake?.close();
      throw new ErrnoError('EINVAL', 'low power was entered already');
    }
    this.#isEntered = true;
    this.#wake = wake;
  }

  exit(): void {
    this.#isEntered = false;
    this.#wake?.close();
    this.#wake = undefined;
  }

  /** Runs a call with the device awake. */
  awake<R>(call: () => R): R {
    if (this.#isEntered) this.#resume();
    try {
      return call();
    } finally {
      if (this.#isEntered) this.#suspend();
    }
  }

  #suspend(): void {
    const line = this.#line;
    this.#isLineMasked = line.enabled && !line.masked;
    if (this.#isLineMasked) line.mask();
  }

  #resume(): void {
    if (this.#wake) {
      this.#wake.signal();
      this.exit();
    }
    if (this.#isLineMasked) this.#line.unmask();
    this.#isLineMasked = false;
  }
}
