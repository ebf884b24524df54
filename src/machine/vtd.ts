// SPDX-License-Identifier: Apache-2.0
/** A VT-d unit of a machine: the model of the hardware, and its driver, which meet in memory and registers. */
import { hi, lo } from '../base/u64.ts';
import { domainTranslationStruct } from '../drivers/intel/debugfs.ts';
import type { IntelIommu } from '../drivers/intel/intel_iommu.ts';
import type { Unit } from '../drivers/intel/unit.ts';
import { Access, NO_PASID as PLAIN } from '../hw/vtd/access.ts';
import { Capabilities, LEGACY, SCALABLE } from '../hw/vtd/capabilities.ts';
import { VtdUnit } from '../hw/vtd/vtd_unit.ts';
import { type Device, NO_PASID } from '../iommu/device.ts';
import { FRAME_SIZE } from '../memory/frame.ts';
import type { Ram } from '../memory/ram.ts';
import type { DmaMemory } from '../pci/dma.ts';
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
import type { Sim } from '../sim/sim.ts';
import type { VtdMode } from './description.ts';

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

export interface VtdParts {
  readonly sim: Sim;
  readonly ram: Ram;
  readonly memory: DmaMemory;
  /** The one driver of all units of the machine. */
  readonly driver: IntelIommu;
}

export class MachineVtd implements Translator {
  readonly model: VtdUnit;
  readonly unit: Unit;
  readonly #driver: IntelIommu;
  readonly #requesters = new Map<Device, number>();

  constructor({ sim, ram, memory, driver }: VtdParts, name: string, mode: VtdMode) {
    const caps = Capabilities.of(mode === 'legacy' ? LEGACY : SCALABLE);
    this.model = new VtdUnit({ name, sim, ram, caps, other: memory });
    this.#driver = driver;
    const unit = driver.addUnit(name, this.model.hardware);
    if (typeof unit === 'number') throw new Error(`${name} does not start (${unit})`);
    this.unit = unit;
  }

  get caches(): readonly TranslationCache[] {
    return this.model.caches;
  }

  set onInvalidation(told: ((notice: InvalidationNotice) => void) | undefined) {
    this.model.invalidation.told = told;
  }

  /** A function appears behind it; those with the same `group` share one. 0, or a negative errno. */
  addFunction(fn: PciFunction, group?: unknown): number {
    const sourceId = fn.requesterId;
    this.#requesters.set(fn.device, sourceId);
    return this.#driver.addDevice(fn.device, this.unit, { sourceId, group });
  }

  /** What debugfs shows of a function's tables. */
  translationStruct(fn: PciFunction): string {
    const info = this.#driver.infoOf(fn.device);
    return info ? domainTranslationStruct(fn.bdf, info) : '';
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
