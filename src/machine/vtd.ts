// SPDX-License-Identifier: Apache-2.0
/** A VT-d unit of a machine: the model of the hardware, and its driver, which meet in memory and registers. */
import { errnoName } from '../base/errno.ts';
import { domainTranslationStruct } from '../drivers/intel/debugfs.ts';
import type { DeviceFunction } from '../drivers/intel/device_function.ts';
import type { IntelIommu } from '../drivers/intel/intel_iommu.ts';
import type { Unit } from '../drivers/intel/unit.ts';
import { VtdUnit } from '../hw/vtd/vtd_unit.ts';
import type { Ram } from '../memory/ram.ts';
import type { DmaMemory } from '../pci/dma.ts';
import type { PciFunction } from '../pci/function.ts';
import type { Sim } from '../sim/sim.ts';
import type { VtdDescription } from './description.ts';
import { MachineError } from './machine_error.ts';
import { vtdCapabilities } from './vtd_capabilities.ts';
import { VtdTranslator } from './vtd_translator.ts';

export interface VtdParts {
  readonly sim: Sim;
  readonly ram: Ram;
  readonly memory: DmaMemory;
  /** The one driver of all units of the machine. */
  readonly driver: IntelIommu;
}

export class MachineVtd extends VtdTranslator {
  readonly unit: Unit;
  readonly #driver: IntelIommu;

  constructor({ sim, ram, memory, driver }: VtdParts, description: VtdDescription) {
    const { name } = description;
    const caps = vtdCapabilities(description);
    super(new VtdUnit({ name, sim, ram, caps, other: memory }));
    this.#driver = driver;
    const unit = driver.addUnit(name, this.model.hardware);
    if (typeof unit === 'number') {
      const needs = 'it needs queued invalidation (QI), and second or first stages of 4 levels';
      throw new MachineError(`${name} is refused by its driver (${errnoName(-unit)}): ${needs}`);
    }
    this.unit = unit;
  }

  /** A function appears behind it; those with the same `group` share one. 0, or a negative errno. */
  addFunction(fn: PciFunction, group?: unknown): number {
    this.connect(fn);
    const { requesterId: sourceId, physicalFunction } = fn;
    return this.#driver.addDevice(fn.device, this.unit, {
      ...controlsOf(fn),
      ...(physicalFunction && { physicalSourceId: physicalFunction.requesterId }),
      sourceId,
      group,
    });
  }

  /** What debugfs shows of a function's tables. */
  translationStruct(fn: PciFunction): string {
    const info = this.#driver.infoOf(fn.device);
    return info ? domainTranslationStruct(fn.bdf, info) : '';
  }
}

/** What the driver turns on and off: PASIDs and page requests of a virtual function are its physical one's, which decides. */
function controlsOf({ ats, pasids, pageRequests, physicalFunction }: PciFunction): DeviceFunction {
  if (!physicalFunction) return { ats, pasid: pasids, pri: pageRequests };
  const nothing = (): void => undefined;
  return {
    ats,
    pasid: pasids && { enable: nothing },
    pri: pageRequests && {
      pasidRequired: pageRequests.pasidRequired,
      reset: nothing,
      enable: () => pageRequests.enabled,
      disable: nothing,
    },
  };
}
