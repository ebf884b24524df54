// SPDX-License-Identifier: Apache-2.0
import { type Device, NO_PASID } from '../iommu/device.ts';
import { FRAME_SIZE } from '../memory/frame.ts';
import type { GroupResponseMessage, PageRequestMessage } from './ats_messages.ts';
import { type DmaAccess, isFault, TranslationCause, type Translator } from './translator.ts';

/** Why a DMA did not happen: the IOMMU's causes, and those of the function and of memory. */
export const DmaCause = {
  ...TranslationCause,
  /** The function may not ask: no fault of the IOMMU, which never sees the request. */
  BUS_MASTER_OFF: 'bus mastering is off',
  /** It may not send this PASID, or not with this mode: the same. */
  PASID_OFF: 'requests with this PASID are off',
  /** It has an address that was translated before, and the IOMMU takes none from it. */
  TRANSLATED_OFF: 'translated requests are off',
  /** It goes beyond 2^64. */
  WRAPS: 'beyond the end of the address space',
  /** Translated to something that is no memory of a client, or memory that cannot be reached any more. */
  NO_MEMORY: 'no memory is there',
} as const;
export type DmaCause = (typeof DmaCause)[keyof typeof DmaCause];

/** A DMA that was refused as a whole. */
export interface DmaFault {
  readonly cause: DmaCause;
  /** The first byte that was refused. */
  readonly at: bigint;
}

/** One DMA, done or refused, told once. */
export interface DmaEvent {
  /** The function: `0000:00:02.0`. */
  readonly bdf: string;
  /** 0 (`NO_PASID`) where the request had none. */
  readonly pasid: number;
  readonly access: DmaAccess;
  readonly iova: bigint;
  readonly length: number;
  /** Undefined where it was done. */
  readonly fault: DmaFault | undefined;
  /** The frame of its first byte, where it was done. */
  readonly frame: number | undefined;
  /** Its address was translated before, by ATS; absent: it was not. */
  readonly translated?: true;
}

/** Who watches the DMA of a machine and what goes with it, for traces. It must change nothing. */
export interface DmaObserver {
  dma?(event: DmaEvent): void;
  /** A function has asked for a page; `refusal`: why it may not. */
  pageRequest?(bdf: string, message: PageRequestMessage, refusal: string | undefined): void;
  /** The answer to a group of page requests has come; `isExpected`: the function waits for it. */
  groupResponse?(bdf: string, message: GroupResponseMessage, isExpected: boolean): void;
  /** A device model says that its driver made a mistake which the hardware itself cannot report. */
  driverMistake?(bdf: string, text: string): void;
}

/** Physical memory as a DMA reaches it; `ClientMemory` is one. False where the bytes cannot be reached. */
export interface DmaMemory {
  read(frame: number, offset: number, into: Uint8Array): boolean;
  write(frame: number, offset: number, from: Uint8Array): boolean;
}

/** A piece of a request that was let through, or refused, as the IOMMU had it. */
export interface Translated {
  readonly device: Device;
  readonly pasid: number;
  readonly iova: bigint;
  readonly access: DmaAccess;
  /** Bits of `RequestMode`. */
  readonly mode: number;
  /** The frame that it leads to; undefined where it was refused. */
  readonly frame: number | undefined;
  /** The function had the translation from ATS. */
  readonly byDevice: boolean;
}

/** Compares what each access was let through to with what software expects; it changes nothing. */
export interface DmaWitness {
  /** The IOMMU was asked for a translation (ATS): what it found, it may keep. */
  asked(device: Device, pasid: number, iova: bigint): void;
  sees(translated: Translated): void;
}

/** What a function's requests go through. */
export interface DmaPath {
  readonly translator: Translator;
  readonly memory: DmaMemory;
  /** Asked for each event, so that it can be set at any time. */
  observer(): DmaObserver | undefined;
  readonly witness?: DmaWitness | undefined;
}

interface Piece {
  readonly frame: number;
  readonly offset: number;
  bytes: number;
}

/**
 * The DMA of one function. A request is whole or refused: all of it is translated before the first byte moves, so a refused read
 * gives all ones and a refused write changes nothing.
 */
export class DmaPort {
  readonly #bdf: string;
  readonly #device: Device;
  readonly #path: DmaPath;
  readonly #isMaster: () => boolean;
  readonly #onAbort: (access: DmaAccess) => void;
  readonly #allowsPasid: (pasid: number, mode: number) => boolean;

  /** `isMaster`: the function may ask now (Bus Master Enable). `onAbort`: a request was refused on its way. `allowsPasid`: it may send this prefix now. */
  constructor(
    bdf: string,
    device: Device,
    path: DmaPath,
    hooks: {
      readonly isMaster: () => boolean;
      readonly onAbort: (access: DmaAccess) => void;
      readonly allowsPasid?: (pasid: number, mode: number) => boolean;
    },
  ) {
    this.#bdf = bdf;
    this.#device = device;
    this.#path = path;
    this.#isMaster = hooks.isMaster;
    this.#onAbort = hooks.onAbort;
    this.#allowsPasid = hooks.allowsPasid ?? (() => true);
  }

  /**
   * Reads `into.length` bytes at an I/O address. Undefined, or why it was refused, and `into` is all ones.
   * @param mode bits of `RequestMode`
   */
  read(iova: bigint, into: Uint8Array, pasid = NO_PASID, mode = 0): DmaFault | undefined {
    const fault = this.#transfer('read', iova, into, pasid, mode);
    if (fault) into.fill(0xff);
    return fault;
  }

  /** Writes `from` to an I/O address. Undefined, or why it was refused, and nothing has changed. */
  write(iova: bigint, from: Uint8Array, pasid = NO_PASID, mode = 0): DmaFault | undefined {
    return this.#transfer('write', iova, from, pasid, mode);
  }

  /**
   * A request with an address that was translated before, which the IOMMU does not look up again: reads into or writes from
   * `bytes`, from byte `offset` of a frame on. `iova` and `pasid` are for reports.
   */
  translated(
    access: DmaAccess,
    at: { readonly frame: number; readonly offset: number },
    bytes: Uint8Array,
    { iova, pasid = NO_PASID }: { readonly iova: bigint; readonly pasid?: number },
  ): DmaFault | undefined {
    const fault = this.#translated(access, at, bytes, iova);
    if (fault && fault.cause !== DmaCause.BUS_MASTER_OFF) this.#onAbort(access);
    if (fault && access === 'read') bytes.fill(0xff);
    const frame = fault ? undefined : at.frame;
    if (!fault && this.#path.witness) this.#testify(access, iova, pasid, 0, frame, true);
    const what = { bdf: this.#bdf, pasid, access, iova, length: bytes.length, fault, frame };
    this.#path.observer()?.dma?.({ ...what, translated: true });
    return fault;
  }

  #translated(
    access: DmaAccess,
    { frame, offset }: { readonly frame: number; readonly offset: number },
    bytes: Uint8Array,
    iova: bigint,
  ): DmaFault | undefined {
    if (!this.#isMaster()) return { cause: DmaCause.BUS_MASTER_OFF, at: iova };
    const { ats } = this.#path.translator;
    if (ats?.takesTranslated(this.#device, { access, frame, offset }) !== true)
      return { cause: DmaCause.TRANSLATED_OFF, at: iova };
    return this.#move(access, iova, bytes, [{ frame, offset, bytes: bytes.length }]);
  }

  #transfer(
    access: DmaAccess,
    iova: bigint,
    bytes: Uint8Array,
    pasid: number,
    mode: number,
  ): DmaFault | undefined {
    if (bytes.length === 0) return undefined;
    const found = this.#translate(access, iova, bytes.length, pasid, mode);
    const fault = Array.isArray(found) ? this.#move(access, iova, bytes, found) : found;
    if (fault && !isOwn(fault.cause)) this.#onAbort(access);
    const frame = Array.isArray(found) && !fault ? found[0]?.frame : undefined;
    const { length } = bytes;
    this.#path.observer()?.dma?.({ bdf: this.#bdf, pasid, access, iova, length, fault, frame });
    return fault;
  }

  /** All of a request, as contiguous pieces in order, or what is refused of it. */
  #translate(
    access: DmaAccess,
    iova: bigint,
    length: number,
    pasid: number,
    mode: number,
  ): Piece[] | DmaFault {
    if (!this.#isMaster()) return { cause: DmaCause.BUS_MASTER_OFF, at: iova };
    if ((pasid !== NO_PASID || mode !== 0) && !this.#allowsPasid(pasid, mode))
      return { cause: DmaCause.PASID_OFF, at: iova };
    if (iova + BigInt(length) > 2n ** 64n) return { cause: DmaCause.WRAPS, at: 2n ** 64n - 1n };
    const pieces: Piece[] = [];
    for (let done = 0; done < length;) {
      const at = done === 0 ? iova : iova + BigInt(done);
      const run = this.#path.translator.translate(this.#device, pasid, at, access, mode);
      const frame = isFault(run) ? undefined : run.frame;
      if (this.#path.witness) this.#testify(access, at, pasid, mode, frame, false);
      if (isFault(run)) return run;
      const bytes = Math.min(run.bytes, length - done);
      const last = pieces.at(-1);
      if (last && end(last) === run.frame * FRAME_SIZE + run.offset) last.bytes += bytes;
      else pieces.push({ frame: run.frame, offset: run.offset, bytes });
      done += bytes;
    }
    return pieces;
  }

  #testify(
    access: DmaAccess,
    iova: bigint,
    pasid: number,
    mode: number,
    frame: number | undefined,
    byDevice: boolean,
  ): void {
    const device = this.#device;
    this.#path.witness?.sees({ device, pasid, iova, access, mode, frame, byDevice });
  }

  #move(
    access: DmaAccess,
    iova: bigint,
    bytes: Uint8Array,
    pieces: readonly Piece[],
  ): DmaFault | undefined {
    let done = 0;
    for (const { frame, offset, bytes: size } of pieces) {
      const part = bytes.subarray(done, done + size);
      if (!this.#path.memory[access](frame, offset, part)) {
        return { cause: DmaCause.NO_MEMORY, at: iova + BigInt(done) };
      }
      done += size;
    }
    return undefined;
  }
}

/** The function itself holds it back: nobody else sees it. */
const isOwn = (cause: DmaCause): boolean =>
  cause === DmaCause.BUS_MASTER_OFF || cause === DmaCause.PASID_OFF;

const end = (piece: Piece): number => piece.frame * FRAME_SIZE + piece.offset + piece.bytes;
