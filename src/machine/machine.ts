// SPDX-License-Identifier: Apache-2.0
import { MockIommu } from '../drivers/mock/mock_iommu.ts';
import { IntelIommu } from '../drivers/intel/intel_iommu.ts';
import { PagingIommu } from '../drivers/paging/paging_iommu.ts';
import type { Device } from '../iommu/device.ts';
import { Iommufd } from '../iommufd/iommufd.ts';
import type { ClientMemory } from '../memory/client_memory.ts';
import { PhysicalMemory } from '../memory/physical_memory.ts';
import { Ram } from '../memory/ram.ts';
import type { DmaObserver } from '../pci/dma.ts';
import type { PciFunction } from '../pci/function.ts';
import type { Translator } from '../pci/translator.ts';
import { Sim } from '../sim/sim.ts';
import { Vfio } from '../vfio/vfio.ts';
import type { MachineDescription, MockIommuDescription } from './description.ts';
import { MachineError } from './machine_error.ts';
import { MockShapes } from './mock_shapes.ts';
import { makePciDevices, placeBars } from './pci_devices.ts';
import { defaultMachine } from './presets.ts';
import { staleDefault } from './stale_default.ts';
import { type StaleTranslation, StaleTranslations } from './stale_translations.ts';
import { MachineVtd } from './vtd.ts';
import { WatchedMemory } from './watched_memory.ts';

const NS_PER_MS = 1e6;

/** A whole machine: which IOMMUs it has, with their drivers and devices, behind one /dev/iommu. */
export class Machine {
  readonly description: MachineDescription;
  readonly iommufd: Iommufd;
  /** Where page tables live. */
  readonly ram: Ram;
  /** The PCI functions, by ascending address. */
  readonly pciDevices: readonly PciFunction[];
  /** Those that programs can have: all of them, by address, so the first is vfio0. */
  readonly vfio: Vfio;
  /** Who is told of each DMA; set it at any time. */
  dmaObserver: DmaObserver | undefined = undefined;

  readonly #translators = new Map<PciFunction, Translator>();
  readonly #translatorsByDevice = new Map<Device, Translator>();

  /** RangeError where the description cannot be: a PCI address that is none, or that two functions have. */
  constructor(
    options: {
      readonly description?: MachineDescription;
      readonly sim?: Sim;
      /** Where page tables live; memory of its own unless told. */
      readonly ram?: Ram;
      /** Compares each DMA with what software is entitled to expect, and tells what differs. Costs a walk for each. */
      readonly onStale?: ((found: StaleTranslation) => void) | undefined;
    } = {},
  ) {
    const {
      description = defaultMachine,
      sim = new Sim(),
      onStale = staleDefault.report,
    } = options;
    this.description = description;
    const { pageResponseTimeoutMs = 0, vfPageRequests = 'refuse' } = description;
    const pageResponseTimeout = pageResponseTimeoutMs * NS_PER_MS;
    this.iommufd = new Iommufd({ sim, pageResponseTimeout, vfPageRequests });
    this.ram = options.ram ?? new Ram({ faults: sim.faults });
    const mocks: { readonly description: MockIommuDescription; readonly mock: MockIommu }[] = [];
    const functions: PciFunction[] = [];
    const memory = new PhysicalMemory(this.ram, this.memory);
    const translatorOf = (device: Device) => this.#translatorsByDevice.get(device);
    const clients = onStale && new WatchedMemory(this.memory);
    const requesterOf = (device: Device) =>
      functions.find((fn) => fn.device === device)?.requesterId;
    const sources = clients && { translatorOf, requesterOf, memory, clients };
    const witness = sources && new StaleTranslations(sources, onStale);
    this.iommufd.core.guestWatcher = witness?.guestWatcher;
    const pci = { sim, memory, observer: () => this.dmaObserver, witness };
    let driver: IntelIommu | undefined;
    const intel = (): IntelIommu => (driver ??= new IntelIommu(this.iommufd.core));
    for (const iommu of description.iommus) {
      const { core } = this.iommufd;
      if (iommu.driver === 'mock') {
        mocks.push({ description: iommu, mock: new MockIommu(core, { ram: this.ram }) });
      } else {
        const made =
          iommu.driver === 'paging'
            ? new PagingIommu(core, { name: iommu.name, ram: this.ram })
            : new MachineVtd(
                { sim, ram: this.ram, memory: clients ?? this.memory, driver: intel() },
                iommu,
              );
        const behind = makePciDevices(pci, made, iommu);
        for (const fn of behind) {
          this.#translators.set(fn, made);
          this.#translatorsByDevice.set(fn.device, made);
          witness?.follow(fn.device);
        }
        functions.push(...behind);
      }
    }
    if (mocks.length) this.iommufd.testHardware = new MockShapes(mocks);
    this.pciDevices = functions.toSorted((a, b) => (a.bdf < b.bdf ? -1 : 1));
    checkAddresses(this.pciDevices);
    placeBars(this.pciDevices);
    this.vfio = new Vfio(sim);
    for (const fn of this.pciDevices) this.vfio.register(fn);
  }

  /** What the requests of a function go through. */
  translatorOf(fn: PciFunction): Translator | undefined {
    return this.#translators.get(fn);
  }

  /** What debugfs has of an Intel IOMMU's function; undefined where another serves it. */
  translationStructOf(fn: PciFunction): string | undefined {
    const translator = this.#translators.get(fn);
    return translator instanceof MachineVtd ? translator.translationStruct(fn) : undefined;
  }

  /** The pages of its clients, as frames. */
  get memory(): ClientMemory {
    return this.iommufd.memory;
  }
}

function checkAddresses(functions: readonly PciFunction[]): void {
  for (const [i, { bdf }] of functions.entries()) {
    if (functions[i + 1]?.bdf === bdf) throw new MachineError(`two functions at ${bdf}`);
  }
}
