// SPDX-License-Identifier: Apache-2.0
import { FRAME_SIZE } from '../memory/frame.ts';
import type { AtsTranslator } from './ats_messages.ts';
import type { DmaEvent, DmaMemory, DmaObserver, DmaPath } from './dma.ts';
import {
  type DmaAccess,
  TranslationCause,
  type TranslatedRun,
  type TranslationFault,
  type Translator,
} from './translator.ts';

interface FakePage {
  readonly frame: number;
  readonly readable: boolean;
  readonly writable: boolean;
}

/** For tests of functions and device models: an IOMMU that is a list of 2 KiB pages, and memory that is one buffer. */
export class FakePath implements DmaPath, Translator, DmaMemory, DmaObserver {
  readonly translator = this;
  /** Undefined: it has none. Set it before functions are used. */
  ats: AtsTranslator | undefined = undefined;
  readonly memory = this;
  readonly bytes: Uint8Array;
  readonly events: DmaEvent[] = [];
  readonly mistakes: string[] = [];
  readonly #pages = new Map<bigint, FakePage>();

  constructor(frames = 16) {
    this.bytes = new Uint8Array(frames * FRAME_SIZE);
  }

  /** Maps one frame of the buffer at an address, a multiple of 2 KiB. */
  map(iova: bigint, frame: number, access: Partial<FakePage> = {}): this {
    this.#pages.set(iova, { frame, readable: true, writable: true, ...access });
    return this;
  }

  unmap(iova: bigint): void {
    this.#pages.delete(iova);
  }

  observer(): this {
    return this;
  }

  dma(event: DmaEvent): void {
    this.events.push(event);
  }

  driverMistake(_bdf: string, text: string): void {
    this.mistakes.push(text);
  }

  translate(
    _device: unknown,
    pasid: number,
    iova: bigint,
    access: DmaAccess,
  ): TranslatedRun | TranslationFault {
    if (pasid !== 0) return { cause: TranslationCause.BLOCKED, at: iova };
    const offset = Number(iova % BigInt(FRAME_SIZE));
    const page = this.#pages.get(iova - BigInt(offset));
    if (!page) return { cause: TranslationCause.NOT_MAPPED, at: iova };
    if (access === 'read' && !page.readable) {
      return { cause: TranslationCause.NOT_READABLE, at: iova };
    }
    if (access === 'write' && !page.writable) {
      return { cause: TranslationCause.NOT_WRITABLE, at: iova };
    }
    return { frame: page.frame, offset, bytes: FRAME_SIZE - offset };
  }

  read(frame: number, offset: number, into: Uint8Array): boolean {
    const at = frame * FRAME_SIZE + offset;
    if (at + into.length > this.bytes.length) return false;
    into.set(this.bytes.subarray(at, at + into.length));
    return true;
  }

  write(frame: number, offset: number, from: Uint8Array): boolean {
    const at = frame * FRAME_SIZE + offset;
    if (at + from.length > this.bytes.length) return false;
    this.bytes.set(from, at);
    return true;
  }
}
