// SPDX-License-Identifier: Apache-2.0
import { Device, type DeviceOptions } from '../iommu/device.ts';
import { formatPciAddress, type PciAddress, requesterId } from './address.ts';
import { Bar, BAR_COUNT, type BarOptions, overlay } from './bar.ts';
import { addCapabilities, type Capability, statusValue } from './capability.ts';
import { ConfigSpace } from './config_space.ts';
import { type DmaPath, DmaPort } from './dma.ts';
import { ExpressCapability, type ExpressOptions } from './express.ts';
import { command, CONFIG, headerRegisters, type Identity, status } from './header.ts';
import { Interrupts } from './interrupts.ts';
import { MsiCapability, type MsiOptions } from './msi.ts';
import { MsixCapability, type MsixOptions } from './msix.ts';

/** A function as data: what it is and has. A device model makes one for itself. */
export interface FunctionOptions {
  readonly address: PciAddress;
  readonly identity: Identity;
  /** Its INTx pin, INTA to INTD as 1 to 4; 0 (unless told): it has none. */
  readonly interruptPin?: 0 | 1 | 2 | 3 | 4;
  readonly bars?: readonly BarOptions[];
  readonly msi?: MsiOptions;
  readonly msix?: MsixOptions;
  /** Absent: a function of conventional PCI, with 256 bytes of config space that matter and no reset of its own. */
  readonly express?: ExpressOptions;
  /** What IOMMU core is told of it: reserved regions, PASID bits, isolated interrupts. */
  readonly device?: DeviceOptions;
  /** The model's part of a reset: its registers as after power-on, and what is under way comes to nothing. */
  readonly onReset?: () => void;
}

/** One PCI function: what is on the bus at one requester id. */
export class PciFunction {
  readonly address: PciAddress;
  /** `0000:00:02.0`. */
  readonly bdf: string;
  /** Bus, device and function as 16 bits, as its requests carry them. */
  readonly requesterId: number;
  readonly identity: Identity;
  readonly config = new ConfigSpace();
  /** By index, 0 to 5; undefined where there is none, also above a 64-bit one. */
  readonly bars: readonly (Bar | undefined)[];
  readonly interrupts: Interrupts;
  readonly msi: MsiCapability | undefined;
  readonly msix: MsixCapability | undefined;
  readonly express: ExpressCapability | undefined;
  readonly dma: DmaPort;
  /** What IOMMU core knows it as. */
  readonly device: Device;
  readonly #onReset: () => void;

  constructor(options: FunctionOptions, path: DmaPath) {
    const { address, identity, interruptPin = 0, msi, msix, express } = options;
    this.address = address;
    this.bdf = formatPciAddress(address);
    this.requesterId = requesterId(address);
    this.identity = identity;
    this.device = new Device(this.bdf, options.device);
    this.#onReset = options.onReset ?? (() => undefined);
    this.msi = msi && new MsiCapability(msi);
    this.msix = msix && new MsixCapability(msix, () => this.interrupts.update());
    this.express = express && new ExpressCapability(express);
    this.interrupts = new Interrupts(this.config, {
      pin: interruptPin,
      msi: this.msi,
      msix: this.msix,
    });
    this.bars = this.#makeBars(options.bars ?? []);
    this.#fillConfig(identity, interruptPin);
    this.dma = new DmaPort(this.bdf, this.device, path, {
      isMaster: () => this.isBusMaster,
      // What a requester notes when nobody completes its read; a write is posted, nobody tells it.
      onAbort: (access) => {
        if (access === 'write') return;
        const held = this.config.get(CONFIG.Status, 2);
        this.config.set(CONFIG.Status, 2, status.fields.ReceivedMasterAbort.setLo(held, 1));
      },
    });
    this.config.onWrite = () => this.#written();
  }

  /** Memory Space Enable: its BARs answer. */
  get isMemoryEnabled(): boolean {
    return command.fields.MemorySpaceEnable.get(this.config.get(CONFIG.Command, 2)) === 1;
  }

  /** Bus Master Enable: it may do DMA and send messages. */
  get isBusMaster(): boolean {
    return command.fields.BusMasterEnable.get(this.config.get(CONFIG.Command, 2)) === 1;
  }

  /** It can be reset on its own. */
  get canReset(): boolean {
    return this.express?.hasFunctionLevelReset ?? false;
  }

  /** The address that a BAR's register holds; 0n where nobody has placed it. */
  barAddress(index: number): bigint {
    const bar = this.bars[index];
    if (!bar) throw new RangeError(`${this.bdf} has no BAR ${index}`);
    const low = BigInt((this.config.get(bar.configOffset, 4) & ~0xf) >>> 0);
    if (bar.bits === 32) return low;
    return low | (BigInt(this.config.get(bar.configOffset + 4, 4)) << 32n);
  }

  /** Firmware's part: puts a BAR at an address, which is a multiple of its size. */
  placeBar(index: number, address: bigint): void {
    const bar = this.bars[index];
    if (!bar) throw new RangeError(`${this.bdf} has no BAR ${index}`);
    this.config.write(bar.configOffset, 4, Number(address & 0xffff_ffffn));
    if (bar.bits === 64) this.config.write(bar.configOffset + 4, 4, Number(address >> 32n));
  }

  /**
   * A function level reset, as the hardware does it: config space as after power-on (base addresses and Command included), no
   * interrupt, and nothing that was under way goes on. Software that wants its config space back uses `resetFunction`.
   */
  reset(): void {
    this.config.reset();
    this.#onReset();
    this.interrupts.reset();
  }

  /** After `config.set` or `config.restore`: what follows from config space follows. */
  update(): void {
    this.interrupts.update();
  }

  #makeBars(all: readonly BarOptions[]): (Bar | undefined)[] {
    const bars: (Bar | undefined)[] = Array.from({ length: BAR_COUNT });
    for (const options of all) {
      const made = new Bar(this.#withMsix(options), () => this.isMemoryEnabled);
      bars[made.index] = made;
    }
    if (this.msix && !bars[this.msix.bar]) {
      throw new RangeError(`${this.bdf}: MSI-X is in BAR ${this.msix.bar}, which is not there`);
    }
    return bars;
  }

  /** The table of MSI-X and its pending bits lie over what the model has in that BAR. */
  #withMsix(options: BarOptions): BarOptions {
    const { msix } = this;
    if (msix?.bar !== options.index) return options;
    const withTable = overlay(options.handler, msix.table, msix.tableOffset, msix.tableBytes);
    return { ...options, handler: overlay(withTable, msix.pba, msix.pbaOffset, msix.pbaBytes) };
  }

  #fillConfig(identity: Identity, interruptPin: number): void {
    const capabilities = [this.msi, this.msix, this.express].filter(
      (one): one is NonNullable<typeof one> => one !== undefined,
    ) satisfies Capability[];
    this.config.add(
      headerRegisters(identity, interruptPin).map((one) =>
        one.at === CONFIG.Status ? { ...one, value: statusValue(capabilities) } : one,
      ),
    );
    for (const bar of this.bars) if (bar) this.config.add(bar.registers());
    addCapabilities(this.config, capabilities);
  }

  #written(): void {
    if (this.express?.takeResetRequest()) this.reset();
    else this.interrupts.update();
  }
}
