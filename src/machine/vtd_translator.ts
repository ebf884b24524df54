// SPDX-License-Identifier: Apache-2.0
/** A VT-d unit as functions meet it: the model of the hardware with its requesters, without its driver. */
import { hi, lo } from '../base/u64.ts';
import { Access, NO_PASID as PLAIN } from '../hw/vtd/access.ts';
import type { VtdUnit } from '../hw/vtd/vtd_unit.ts';
import { type Device, NO_PASID } from '../iommu/device.ts';
import { FRAME_SIZE } from '../memory/frame.ts';
import type { PciFunction } from '../pci/function.ts';
import {
  type DmaAccess,
  type ExplainedWay,
  type InvalidationNotice,
  type TranslationCache,
  RequestMode,
  TranslationCause,
  type TranslatedRun,
  type TranslationFault,
  type Translator,
} from '../pci/translator.ts';
import { VtdAts } from './vtd_ats.ts';

const PAGE = 4096;

/** Numbers of fault records: what a person is told of them. The rest is a table that the driver made wrong, or none. */
const CAUSES: Readonly<Record<number, TranslationCause>> = {
  0x04: TranslationCause.BEYOND_APERTURE,
  0x05: TranslationCause.NOT_WRITABLE,
  0x06: TranslationCause.NOT_READABLE,
  0x71: TranslationCause.NOT_MAPPED,
  0x79: TranslationCause.NOT_MAPPED,
  0x80: TranslationCause.BEYOND_APERTURE,
  0x83: TranslationCause.BEYOND_APERTURE,
  0x84: TranslationCause.BEYOND_APERTURE,
  0x85: TranslationCause.NOT_WRITABLE,
  0x86: TranslationCause.NOT_READABLE,
};

export class VtdTranslator implements Translator {
  readonly model: VtdUnit;
  readonly ats: VtdAts;
  readonly #requesters = new Map<Device, number>();

  constructor(model: VtdUnit) {
    this.model = model;
    this.ats = new VtdAts(model, this.#requesters);
  }

  get caches(): readonly TranslationCache[] {
    return this.model.caches;
  }

  set onInvalidation(told: ((notice: InvalidationNotice) => void) | undefined) {
    this.model.invalidation.told = told;
  }

  /** A function is on the bus behind it. */
  connect(fn: PciFunction): void {
    this.#requesters.set(fn.device, fn.requesterId);
    this.ats.connect(fn);
  }

  explain(device: Device, pasid: number, iova: bigint): ExplainedWay {
    const sourceId = this.#requesters.get(device);
    if (sourceId === undefined) return { lines: ['it is not behind this unit'], address: iova };
    const { lines, secondStageAddress } = this.model.explain({
      sourceId,
      pasid: pasid === NO_PASID ? undefined : pasid,
      address: iova,
    });
    return { lines, address: secondStageAddress ?? iova };
  }

  translate(
    device: Device,
    pasid: number,
    iova: bigint,
    access: DmaAccess,
    mode = 0,
  ): TranslatedRun | TranslationFault {
    const sourceId = this.#requesters.get(device);
    if (sourceId === undefined) return { cause: TranslationCause.BLOCKED, at: iova };
    const hasPasid = pasid !== NO_PASID || (mode & RequestMode.PASID) !== 0;
    const asked =
      (access === 'write' ? Access.WRITE : Access.READ) |
      (mode & RequestMode.EXECUTE ? Access.EXECUTE : 0) |
      (mode & RequestMode.PRIVILEGED ? Access.PRIVILEGED : 0);
    const page = this.model.translate(
      sourceId,
      hasPasid ? pasid : PLAIN,
      lo(iova),
      hi(iova),
      asked,
    );
    if (page < 0) return { cause: CAUSES[-page] ?? TranslationCause.BLOCKED, at: iova };
    const offset = Number(iova & BigInt(PAGE - 1));
    return {
      frame: page * 2 + Math.floor(offset / FRAME_SIZE),
      offset: offset % FRAME_SIZE,
      bytes: PAGE - offset,
    };
  }
}
