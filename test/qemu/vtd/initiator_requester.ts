// SPDX-License-Identifier: Apache-2.0
import { EDU_BUFFER_BYTES } from '../../../host/qemu/edu.ts';
import { TEST_PATTERN } from '../../../host/qemu/test_device.ts';
import type { Initiator } from '../../../src/kernel/hardware.ts';
import type { Requester } from './machine.ts';

/** The two devices of QEMU, made of a requester that can do everything. */
export class InitiatorRequester implements Requester {
  readonly name: 'edu' | 'test';
  readonly sourceId: number;
  readonly #initiator: Initiator;
  readonly #buffer = new Uint8Array(EDU_BUFFER_BYTES);

  constructor(name: 'edu' | 'test', initiator: Initiator) {
    this.name = name;
    this.sourceId = initiator.sourceId;
    this.#initiator = initiator;
    if (name === 'test') this.#buffer.set(this.#buffer.map((_, i) => TEST_PATTERN[i % 4] ?? 0));
  }

  load(address: bigint, bytes: number): boolean {
    if (this.name === 'test') throw new Error('the test device does not read');
    return this.#initiator.dmaRead(address, this.#buffer.subarray(0, bytes)).ok;
  }

  store(address: bigint, bytes: number): boolean {
    return this.#initiator.dmaWrite(address, this.#buffer.slice(0, bytes)).ok;
  }
}
