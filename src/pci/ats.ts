// SPDX-License-Identifier: Apache-2.0
import { field, register } from '../base/register.ts';
import type { ConfigRegister } from './config_space.ts';
import { ExtendedCapabilityId, PlacedCapability } from './extended_capability.ts';
import type { InvalidateRequest } from './ats_messages.ts';

const CAPABILITY = 0x04;
const CONTROL = 0x06;

const capability = register('ATS Capability', {
  InvalidateQueueDepth: field(4, 0, { access: 'RO' }),
  PageAlignedRequest: field(5, 5, { access: 'RO' }),
});
const control = register('ATS Control', {
  SmallestTranslationUnit: field(4, 0),
  Enable: field(15, 15),
});

export interface AtsOptions {
  /** Invalidations that it takes at a time, 1 to 32; 32 unless told. */
  readonly queueDepth?: number;
  /** The model forgets translations, then completes: `DmaPort.completeInvalidation`. */
  readonly onInvalidate: (request: InvalidateRequest) => void;
  /** ATS has been turned off: nothing may be kept. */
  readonly onDisable?: () => void;
}

/**
 * Address Translation Services: the function may ask for translations and keep them. Source of the layout: Linux
 * include/uapi/linux/pci_regs.h (PCI_ATS_*).
 */
export class AtsCapability extends PlacedCapability {
  override readonly name = 'ATS';
  override readonly id = ExtendedCapabilityId.ATS;
  override readonly version = 1;
  override readonly bytes = 8;
  override readonly registers: readonly ConfigRegister[];
  readonly queueDepth: number;
  readonly onInvalidate: (request: InvalidateRequest) => void;
  readonly #onDisable: () => void;
  #wasEnabled = false;

  constructor(options: AtsOptions) {
    super();
    const { queueDepth = 32 } = options;
    if (!(Number.isInteger(queueDepth) && queueDepth >= 1 && queueDepth <= 32))
      throw new RangeError(`ATS with ${queueDepth} invalidations at a time: it is 1 to 32`);
    this.queueDepth = queueDepth;
    this.onInvalidate = options.onInvalidate;
    this.#onDisable = options.onDisable ?? (() => undefined);
    // A depth of 32 is written 0. Requests are always for whole pages.
    const value = (queueDepth & 0x1f) | (1 << 5);
    this.registers = [
      { at: CAPABILITY, bytes: 2, value, register: capability },
      { at: CONTROL, bytes: 2, register: control },
    ];
  }

  get enabled(): boolean {
    return control.fields.Enable.get(this.get(CONTROL, 2)) === 1;
  }

  update(): void {
    if (this.#wasEnabled && !this.enabled) this.#onDisable();
    this.#wasEnabled = this.enabled;
  }

  /** What a driver does: on with the smallest unit, 4 KiB, or off. */
  enable(on: boolean): void {
    this.set(CONTROL, 2, control.fields.Enable.setLo(0, on ? 1 : 0));
    this.update();
  }
}
