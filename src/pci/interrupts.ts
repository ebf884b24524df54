// SPDX-License-Identifier: Apache-2.0
import type { ConfigSpace } from './config_space.ts';
import type { MsiCapability } from './msi.ts';
import type { MsixCapability } from './msix.ts';
import { command, CONFIG, status } from './header.ts';

/** An interrupt as it is on the wire: a write of 32 bits to an address. */
export interface InterruptMessage {
  readonly address: bigint;
  readonly data: number;
}

/**
 * Where the interrupts of a function arrive: VFIO, as the driver of the function. It is called in the middle of whatever
 * the device does, and must not call back into the function.
 */
export interface InterruptSink {
  /**
   * The INTx line as the function drives it: its level, unless Interrupt Disable is set. Called at each change of that, and
   * not again while the line stays as it is.
   */
  intx(asserted: boolean): void;
  /** A message of MSI, `vector` counting from 0. */
  msi(vector: number, message: InterruptMessage): void;
  /** A message of an MSI-X entry that is not masked. */
  msix(vector: number, message: InterruptMessage): void;
}

/**
 * How a function interrupts. Which way is in force follows its config space: MSI-X where that is enabled, else MSI where that
 * is, else the line. The device model says which of its vectors has something to tell and knows no more.
 */
export class Interrupts {
  /** Who is told; undefined: nobody, messages are lost as they are where no interrupt controller takes them. */
  sink: InterruptSink | undefined = undefined;
  readonly msi: MsiCapability | undefined;
  readonly msix: MsixCapability | undefined;
  /** 0: the function has no line, else INTA to INTD as 1 to 4. */
  readonly pin: number;
  readonly #config: ConfigSpace;
  #level = false;
  #asserted = false;

  constructor(
    config: ConfigSpace,
    parts: {
      readonly pin: number;
      readonly msi: MsiCapability | undefined;
      readonly msix: MsixCapability | undefined;
    },
  ) {
    this.#config = config;
    this.pin = parts.pin;
    this.msi = parts.msi;
    this.msix = parts.msix;
  }

  /** The line as a sink was last told: asserted and not disabled. */
  get intxAsserted(): boolean {
    return this.#asserted;
  }

  /** True where messages are enabled, so that the line is not used. */
  get usesMessages(): boolean {
    return (this.msix?.enabled ?? false) || (this.msi?.enabled ?? false);
  }

  /**
   * The device model: send the message of a vector (`usesMessages`), which is pending while it is masked. A message is a write to
   * memory: with Bus Master Enable off it is lost.
   */
  send(vector: number): void {
    if (command.fields.BusMasterEnable.get(this.#config.get(CONFIG.Command, 2)) === 0) return;
    if (this.msix?.enabled) {
      const message = this.msix.send(vector);
      if (message) this.sink?.msix(vector, message);
    } else if (this.msi?.enabled) {
      const sent = this.msi.send(vector);
      if (sent) this.sink?.msi(sent.vector, sent.message);
    }
  }

  /** The device model: the level of its line. Interrupt Status shows it even where the line is disabled. */
  setLevel(level: boolean): void {
    if (this.pin === 0) throw new Error('a function without an interrupt pin drives no line');
    this.#level = level;
    this.update();
  }

  /** For the function: something in config space that decides about interrupts has changed. */
  update(): void {
    const config = this.#config;
    const held = config.get(CONFIG.Status, 2);
    config.set(CONFIG.Status, 2, status.fields.InterruptStatus.setLo(held, this.#level ? 1 : 0));
    const disabled =
      command.fields.InterruptDisable.get(config.get(CONFIG.Command, 2)) === 1 || this.usesMessages;
    const asserted = this.#level && !disabled;
    if (asserted !== this.#asserted) {
      this.#asserted = asserted;
      this.sink?.intx(asserted);
    }
    this.#sendPending();
  }

  /** Messages that waited for their mask to go. */
  #sendPending(): void {
    if (this.msix?.enabled) {
      for (const { vector, message } of this.msix.takePending()) this.sink?.msix(vector, message);
    } else if (this.msi?.enabled) {
      for (const { vector, message } of this.msi.takePending()) this.sink?.msi(vector, message);
    }
  }

  /** For the function: a reset. */
  reset(): void {
    this.#level = false;
    this.msix?.reset();
    this.update();
  }
}
