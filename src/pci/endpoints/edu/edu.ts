// SPDX-License-Identifier: Apache-2.0
import type { DeviceOptions } from '../../../iommu/device.ts';
import type { Sim } from '../../../sim/sim.ts';
import type { Body } from '../../../sim/task.ts';
import type { PciAddress } from '../../address.ts';
import { type AccessWidth, allOnes, type BarHandler, overlay } from '../../bar.ts';
import type { DmaPath } from '../../dma.ts';
import { type FunctionOptions, PciFunction } from '../../function.ts';
import type { Identity } from '../../header.ts';
import { runEngine } from '../engine.ts';
import { EduDma } from './edu_dma.ts';
import {
  BAR0_BYTES,
  DMA_BITS,
  DmaCommand,
  EDU_IDENTITY,
  EduInterrupt,
  IDENTIFICATION,
  Register,
  REGISTER_NAMES,
  Status,
  WIDE_FROM,
} from './registers.ts';

/** A device that is an edu and more: what it has beside. */
export interface EduExtension {
  readonly identity: Identity;
  /** Further capabilities. */
  readonly function: Partial<FunctionOptions>;
  /** Registers of its own, over `bytes` bytes of BAR 0 from `start` on. */
  readonly registers: BarHandler;
  readonly start: number;
  readonly bytes: number;
  readonly onReset: () => void;
}

export interface EduOptions {
  readonly address: PciAddress;
  /** Bits of a DMA address, 1 to 64; 28 unless told. Higher bits of an address are cut off, as on QEMU. */
  readonly dmaBits?: number;
  /** What IOMMU core is told of it. */
  readonly device?: DeviceOptions;
  /** Access Control Services that it has: bits of `Acs`. */
  readonly acs?: number;
  /** Other functions have its device number. */
  readonly multifunction?: boolean;
  readonly extension?: EduExtension;
}

/**
 * QEMU's educational device. A program written for it on QEMU runs here. It has one capability more: PCI Express with a
 * function level reset, without which VFIO could not reset it.
 */
export class Edu {
  readonly function: PciFunction;
  readonly dma: EduDma;
  readonly #sim: Sim;
  #liveness = 0;
  #factorial = 0;
  #status = 0;
  #interruptStatus = 0;
  /** Counts resets: what was under way before one has no effect after it. */
  #life = 0;

  constructor(sim: Sim, path: DmaPath, options: EduOptions) {
    const { address, dmaBits = DMA_BITS, device, extension } = options;
    const { acs, multifunction = false } = options;
    this.#sim = sim;
    const handler: BarHandler = {
      read: (offset, width) => this.#read(offset, width),
      write: (offset, width, value) => this.#write(offset, width, value),
      nameAt: (offset) => REGISTER_NAMES.get(offset),
    };
    this.function = new PciFunction(
      {
        ...(acs !== undefined && { acs }),
        multifunction,
        ...extension?.function,
        address,
        identity: extension?.identity ?? EDU_IDENTITY,
        interruptPin: 1,
        msi: { vectors: 1 },
        express: {},
        bars: [
          {
            index: 0,
            size: BAR0_BYTES,
            handler: extension
              ? overlay(handler, extension.registers, extension.start, extension.bytes)
              : handler,
          },
        ],
        onReset: () => {
          this.#reset();
          extension?.onReset();
        },
        ...(device && { device }),
      },
      path,
    );
    const { bdf, dma } = this.function;
    this.dma = new EduDma(dma, dmaBits, (text) => path.observer()?.driverMistake?.(bdf, text));
  }

  #read(offset: number, width: AccessWidth): bigint {
    if (!isKnown(offset, width)) return 0n;
    if (!isAllowed(offset, width)) return allOnes(width);
    switch (offset) {
      case Register.identification:
        return BigInt(IDENTIFICATION);
      case Register.liveness:
        return BigInt(this.#liveness);
      case Register.factorial:
        return BigInt(this.#factorial);
      case Register.status:
        return BigInt(this.#status);
      case Register.interruptStatus:
        return BigInt(this.#interruptStatus);
      case Register.dmaSource:
        return BigInt.asUintN(8 * width, this.dma.source);
      case Register.dmaDestination:
        return BigInt.asUintN(8 * width, this.dma.destination);
      case Register.dmaCount:
        return BigInt.asUintN(8 * width, this.dma.count);
      case Register.dmaCommand:
        return BigInt.asUintN(8 * width, this.dma.command);
      default:
        return allOnes(width);
    }
  }

  #write(offset: number, width: AccessWidth, value: bigint): void {
    if (!isAllowed(offset, width)) return;
    if (offset < WIDE_FROM) this.#write32(offset, Number(value));
    // A write of 4 bytes clears the upper half, as on QEMU. While a transfer runs its registers are not written.
    else if (!this.dma.isRunning) this.#writeDma(offset, value);
  }

  #write32(offset: number, value: number): void {
    switch (offset) {
      case Register.liveness:
        this.#liveness = ~value >>> 0;
        break;
      case Register.factorial:
        if (this.#status & Status.COMPUTING) break;
        this.#factorial = value;
        this.#status |= Status.COMPUTING;
        this.#run('factorial', this.#compute(this.#life));
        break;
      case Register.status:
        this.#status = (this.#status & ~Status.IRQ_FACTORIAL) | (value & Status.IRQ_FACTORIAL);
        break;
      case Register.interruptRaise:
        this.raise(value);
        break;
      case Register.interruptAcknowledge:
        this.#interruptStatus = (this.#interruptStatus & ~value) >>> 0;
        if (this.#interruptStatus === 0) this.function.interrupts.setLevel(false);
        break;
    }
  }

  #writeDma(offset: number, value: bigint): void {
    switch (offset) {
      case Register.dmaSource:
        this.dma.source = value;
        break;
      case Register.dmaDestination:
        this.dma.destination = value;
        break;
      case Register.dmaCount:
        this.dma.count = value;
        break;
      case Register.dmaCommand:
        if ((value & BigInt(DmaCommand.RUN)) === 0n) break;
        this.dma.command = value;
        this.#run('dma', this.#transfer(this.#life));
        break;
    }
  }

  /** Sets bits of the interrupt status, and interrupts, as a write to its raise register. */
  raise(bits: number): void {
    this.#interruptStatus = (this.#interruptStatus | bits) >>> 0;
    if (this.#interruptStatus === 0) return;
    const { interrupts } = this.function;
    if (interrupts.usesMessages) interrupts.send(0);
    else interrupts.setLevel(true);
  }

  #run(name: string, body: Body): void {
    runEngine(this.#sim, `edu ${this.function.bdf} ${name}`, body);
  }

  /** Step by step: the transfer, then its end. In between it is still running for its driver. */
  *#transfer(life: number): Body {
    if (life !== this.#life) return;
    this.dma.move();
    yield 'dma moved';
    if (life !== this.#life) return;
    const wantsInterrupt = (this.dma.command & BigInt(DmaCommand.IRQ)) !== 0n;
    this.dma.command &= ~BigInt(DmaCommand.RUN);
    if (wantsInterrupt) this.raise(EduInterrupt.DMA);
  }

  *#compute(life: number): Body {
    if (life !== this.#life) return;
    const result = factorial(this.#factorial);
    yield 'factorial computed';
    if (life !== this.#life) return;
    this.#factorial = result;
    this.#status &= ~Status.COMPUTING;
    if (this.#status & Status.IRQ_FACTORIAL) this.raise(EduInterrupt.FACTORIAL);
  }

  #reset(): void {
    this.#life++;
    this.#liveness = 0;
    this.#factorial = 0;
    this.#status = 0;
    this.#interruptStatus = 0;
    this.dma.reset();
  }
}

/** What reaches the device: QEMU answers all else before it, with 0, and writes nothing. */
const isKnown = (offset: number, width: AccessWidth): boolean =>
  (width === 4 || width === 8) && offset % width === 0;

/** What the device answers: others read as ones and write nothing. */
const isAllowed = (offset: number, width: AccessWidth): boolean =>
  isKnown(offset, width) && (width === 4 || offset >= WIDE_FROM);

/** n! modulo 2^32, which is 0 from 34 on: no need to multiply 4 billion times. */
function factorial(n: number): number {
  let result = 1;
  for (let i = n; i > 1 && result !== 0; i--) result = n >= 34 ? 0 : Math.imul(result, i) >>> 0;
  return result;
}
