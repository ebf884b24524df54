// SPDX-License-Identifier: Apache-2.0
import type { DmaResult, Initiator, InitiatorCapability } from '../../src/kernel/hardware.ts';
import { HostError } from '../host_error.ts';
import type { QemuHardware } from './hardware.ts';
import type { PciConfig } from './pci_config.ts';
import { Qtest } from './qtest.ts';

/** Registers. Source: QEMU include/hw/misc/iommu-testdev.h. */
const [TRIGGER, ADDRESS_LO, ADDRESS_HI, LENGTH, RESULT, DOORBELL] = [0, 4, 8, 0xc, 0x10, 0x14];
const [EXPECTED_LO, EXPECTED_HI] = [0x1c, 0x20];
const ARM = 1;
const DONE = 0;
const REFUSED = 0xdead_0002;
/** It was written, but is not where it was expected: which nobody asked. */
const ELSEWHERE = 0xdead_0004;

/** All that it writes, again and again, from the first byte on. */
export const TEST_PATTERN: Uint8Array = Uint8Array.of(0x78, 0x56, 0x34, 0x12);

/** QEMU's `iommu-testdev`: writes a pattern to memory, at once, and knows whether it was refused. It does not read. */
export class TestDevice implements Initiator {
  readonly sourceId: number;
  readonly capabilities: ReadonlySet<InitiatorCapability> = new Set(['dmaWrite']);
  readonly #qtest: Qtest;
  readonly #hardware: QemuHardware;
  readonly #bar: number;

  constructor(config: PciConfig, bar: number, qtest: Qtest, hardware: QemuHardware) {
    this.sourceId = config.sourceId;
    this.#bar = bar;
    this.#qtest = qtest;
    this.#hardware = hardware;
  }

  dmaRead(): DmaResult {
    throw new HostError('iommu-testdev does not read');
  }

  /** `from` is the pattern, as often as it fits. */
  dmaWrite(address: bigint, from: Uint8Array): DmaResult {
    if (from.some((byte, i) => byte !== TEST_PATTERN[i % 4])) {
      throw new HostError('iommu-testdev writes nothing but its pattern');
    }
    return this.store(address, from.length);
  }

  store(address: bigint, bytes: number): DmaResult {
    const at = this.#bar;
    const answers = this.#qtest.commands([
      Qtest.write32(at + ADDRESS_LO, Number(address & 0xffff_ffffn)),
      Qtest.write32(at + ADDRESS_HI, Number(address >> 32n)),
      Qtest.write32(at + EXPECTED_LO, 0),
      Qtest.write32(at + EXPECTED_HI, 0),
      Qtest.write32(at + LENGTH, bytes),
      Qtest.write32(at + DOORBELL, ARM),
      Qtest.read32(at + TRIGGER),
      Qtest.read32(at + RESULT),
    ]);
    this.#hardware.deliver();
    const result = Number(answers.at(-1));
    if (result === REFUSED) return { ok: false, bytes: 0 };
    if (result === DONE || result === ELSEWHERE) return { ok: true, bytes };
    throw new HostError(`iommu-testdev answers 0x${result.toString(16)}`);
  }
}
