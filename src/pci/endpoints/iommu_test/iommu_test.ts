// SPDX-License-Identifier: Apache-2.0
import type { Sim } from '../../../sim/sim.ts';
import { AddressTranslationCache } from '../../atc.ts';
import type { DmaPath } from '../../dma.ts';
import type { PciFunction } from '../../function.ts';
import { Edu } from '../edu/edu.ts';
import { CachedDma } from './cached_dma.ts';
import {
  deviceOptions,
  featuresOf,
  functionOptions,
  type IommuTestOptions,
} from './function_options.ts';
import { Invalidations } from './invalidations.ts';
import { Jobs } from './jobs.ts';
import { Life } from './life.ts';
import { PageRequester } from './page_requester.ts';
import { IommuTestRegisters } from './register_file.ts';
import {
  Command,
  IOMMU_TEST_IDENTITY,
  Register,
  REGISTERS_BYTES,
  REGISTERS_START,
  VF_DEVICE_ID,
} from './registers.ts';
import type { TestDevice } from './test_device.ts';

export type { IommuTestOptions } from './function_options.ts';

/** A function that does on command all that a PCI function can do to an IOMMU; README.md says how. It is an edu besides. */
export class IommuTest implements TestDevice {
  readonly sim: Sim;
  readonly edu: Edu;
  readonly function: PciFunction;
  readonly atc = new AddressTranslationCache();
  readonly registers: IommuTestRegisters;
  readonly life = new Life();
  readonly #dma: CachedDma;
  readonly #jobs: Jobs;
  readonly #requester: PageRequester;
  readonly #invalidations: Invalidations;

  constructor(sim: Sim, path: DmaPath, options: IommuTestOptions) {
    this.sim = sim;
    this.#dma = new CachedDma(this);
    this.#requester = new PageRequester(this);
    this.#jobs = new Jobs(this, this.#dma, this.#requester);
    this.#invalidations = new Invalidations(this);
    this.registers = new IommuTestRegisters({
      features: () => featuresOf(this.function),
      refresh: () => this.#refresh(),
      command: (value) => this.#command(value),
    });
    const { address, dmaBits, physical } = options;
    this.edu = new Edu(sim, path, {
      address,
      ...(dmaBits !== undefined && { dmaBits }),
      device: deviceOptions(options),
      extension: {
        identity: physical
          ? { ...IOMMU_TEST_IDENTITY, deviceId: VF_DEVICE_ID }
          : IOMMU_TEST_IDENTITY,
        function: functionOptions(options, {
          onInvalidate: (request) => this.#invalidations.take(request),
          onDisable: () => this.#forgetAll(),
          onGroupResponse: (message) => this.#requester.respond(message),
          onPageRequestsForgotten: () => this.#requester.abandon(),
        }),
        registers: this.registers,
        start: REGISTERS_START,
        bytes: REGISTERS_BYTES,
        onReset: () => this.#reset(),
      },
    });
    this.function = this.edu.function;
  }

  /** Before software reads: what is under way goes on while software waits. A task is not the one to let others run. */
  #refresh(): void {
    if (!this.#isTask()) this.sim.settle();
    const { registers } = this;
    registers.show(Register.outstanding, this.function.pageRequests?.outstanding ?? 0);
    registers.show(Register.cached, this.atc.size);
    registers.show(Register.held, this.#invalidations.held);
    registers.show64(Register.entryLow, this.#dma.lastEntry);
  }

  #isTask(): boolean {
    return this.sim.tasks.some((task) => task === this.sim.current);
  }

  #command(value: number): void {
    const { registers } = this;
    switch (value) {
      case Command.RELEASE:
        return this.#invalidations.release();
      case Command.COMPLETE:
        return this.#invalidations.complete(registers.get(Register.argument));
      case Command.FORGET:
        return this.atc.clear();
    }
    // What runs in the slot goes on.
    if (registers.isBusy(registers.get(Register.slot))) return;
    this.#jobs.start(registers.job(), value);
  }

  #forgetAll(): void {
    this.atc.clear();
    this.#invalidations.forget();
  }

  #reset(): void {
    this.life.reset();
    this.#requester.reset();
    this.#forgetAll();
    this.#dma.lastEntry = 0n;
    this.registers.reset();
  }
}
