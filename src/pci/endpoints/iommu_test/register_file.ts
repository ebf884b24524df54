// SPDX-License-Identifier: Apache-2.0
import { type AccessWidth, allOnes, type BarHandler } from '../../bar.ts';
import type { GroupResponseMessage } from '../../ats_messages.ts';
import type { Job } from './job.ts';
import {
  IDENTIFICATION,
  PageFlag,
  PasidBit,
  Register,
  REGISTER_NAMES,
  REGISTERS_BYTES,
  SLOTS,
  State,
  WRITABLE,
} from './registers.ts';

/** What the registers ask of the device. */
interface Hooks {
  readonly features: () => number;
  /** Called before each read. */
  readonly refresh: () => void;
  readonly command: (value: number) => void;
}

/** The registers of an `iommu_test`, 32 bits each; 8 bytes at once are two of them. */
export class IommuTestRegisters implements BarHandler {
  readonly #hooks: Hooks;
  readonly #view = new DataView(new ArrayBuffer(REGISTERS_BYTES));

  constructor(hooks: Hooks) {
    this.#hooks = hooks;
  }

  read(offset: number, width: AccessWidth): bigint {
    if (!isAllowed(offset, width)) return allOnes(width);
    this.#hooks.refresh();
    const low = BigInt(this.#read(offset));
    return width === 4 ? low : low | (BigInt(this.#read(offset + 4)) << 32n);
  }

  write(offset: number, width: AccessWidth, value: bigint): void {
    if (!isAllowed(offset, width)) return;
    this.#write(offset, Number(value & 0xffff_ffffn));
    if (width === 8) this.#write(offset + 4, Number(value >> 32n));
  }

  nameAt(offset: number): string | undefined {
    if (offset >= Register.faultAddress && offset < Register.faultAddress + 8 * SLOTS)
      return `fault address ${Math.floor((offset - Register.faultAddress) / 8)}`;
    if (offset >= Register.state && offset < Register.state + 4 * SLOTS)
      return `state ${Math.floor((offset - Register.state) / 4)}`;
    return REGISTER_NAMES.get(offset);
  }

  get(offset: number): number {
    return this.#view.getUint32(offset, true);
  }

  /** For the device: what software reads there. */
  show(offset: number, value: number): void {
    this.#view.setUint32(offset, value, true);
  }

  show64(offset: number, value: bigint): void {
    this.#view.setBigUint64(offset, value, true);
  }

  count(offset: number): void {
    this.show(offset, (this.get(offset) + 1) >>> 0);
  }

  /** The job that the registers describe now. */
  job(): Job {
    const pasid = this.get(Register.pasid);
    return {
      slot: this.get(Register.slot),
      address: this.#view.getBigUint64(Register.addressLow, true),
      length: this.get(Register.length),
      offset: this.get(Register.offset),
      group: this.get(Register.group),
      pageFlags: this.get(Register.pageFlags),
      privateData: this.#privateData(),
      pasid:
        pasid & PasidBit.PRESENT
          ? {
              value: pasid & 0xf_ffff,
              execute: (pasid & PasidBit.EXECUTE) !== 0,
              privileged: (pasid & PasidBit.PRIVILEGED) !== 0,
            }
          : undefined,
    };
  }

  #privateData(): bigint | undefined {
    if ((this.get(Register.pageFlags) & PageFlag.PRIVATE_DATA) === 0) return undefined;
    const [low, high] = [0, 8].map((at) =>
      this.#view.getBigUint64(Register.privateData + at, true),
    );
    return (low ?? 0n) | ((high ?? 0n) << 64n);
  }

  isBusy(slot: number): boolean {
    const state = this.get(Register.state + 4 * slot);
    return state === State.RUNNING || state === State.WAITING;
  }

  begin(slot: number): void {
    this.set(slot, State.RUNNING, 0n);
  }

  set(slot: number, state: State, at: bigint): void {
    this.show(Register.state + 4 * slot, state);
    this.show64(Register.faultAddress + 8 * slot, at);
  }

  /** What waits for an answer will get none. */
  abandonWaiting(): void {
    for (let slot = 0; slot < SLOTS; slot++) {
      if (this.get(Register.state + 4 * slot) === State.WAITING) this.set(slot, State.OFF, 0n);
    }
  }

  responded({ group, code, privateData = 0n }: GroupResponseMessage): void {
    this.count(Register.responses);
    this.show64(Register.answeredData, BigInt.asUintN(64, privateData));
    this.show64(Register.answeredData + 8, privateData >> 64n);
    this.show(Register.lastResponse, (0x8000_0000 | (code << 12) | group) >>> 0);
  }

  reset(): void {
    new Uint8Array(this.#view.buffer).fill(0);
  }

  #read(offset: number): number {
    if (offset === Register.identification) return IDENTIFICATION;
    return offset === Register.features ? this.#hooks.features() : this.get(offset);
  }

  #write(offset: number, value: number): void {
    if (offset === Register.command) this.#hooks.command(value);
    const mask = WRITABLE.get(offset);
    if (mask !== undefined) this.show(offset, (value & mask) >>> 0);
  }
}

const isAllowed = (offset: number, width: AccessWidth): boolean =>
  (width === 4 || width === 8) && offset % width === 0;
