// SPDX-License-Identifier: Apache-2.0
import { Device, type DeviceOptions } from '../iommu/device.ts';
import { formatPciAddress, type PciAddress, requesterId } from './address.ts';
import { Bar, BAR_COUNT, type BarOptions, overlay } from './bar.ts';
import { addCapabilities, type Capability, statusValue } from './capability.ts';
import { ConfigSpace } from './config_space.ts';
import { AcsCapability } from './acs.ts';
import { AtsCapability, type AtsOptions } from './ats.ts';
import type { AtsFunction, GroupResponseMessage, InvalidateRequest } from './ats_messages.ts';
import { AtsPort } from './ats_port.ts';
import { type DmaPath, DmaPort } from './dma.ts';
import { addExtendedCapabilities, type ExtendedCapability } from './extended_capability.ts';
import { PasidCapability, type PasidOptions } from './pasid.ts';
import { PriCapability, type PriOptions } from './pri.ts';
import { SriovCapability, type SriovOptions } from './sriov.ts';
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
  /** It can ask for translations and keep them. */
  readonly ats?: AtsOptions;
  /** It can ask for pages. Not for a virtual function, which asks through its physical one's. */
  readonly pri?: PriOptions;
  /** Its requests can have a PASID. Not for a virtual function, which does as its physical one. */
  readonly pasid?: PasidOptions;
  readonly sriov?: SriovOptions;
  /** Access Control Services that it has: bits of `Acs`. */
  readonly acs?: number;
  /** It is a virtual function of this one. */
  readonly physicalFunction?: PciFunction;
  /** There are other functions with its device number: Header Type says so. */
  readonly multifunction?: boolean;
  /** A group of page requests has its answer; for the model. */
  readonly onGroupResponse?: (message: GroupResponseMessage) => void;
  /** Its page requests without an answer are forgotten (a reset of the interface): none will come; for the model. */
  readonly onPageRequestsForgotten?: () => void;
  /** What IOMMU core is told of it: reserved regions, PASID bits, isolated interrupts. */
  readonly device?: DeviceOptions;
  /** The model's part of a reset: its registers as after power-on, and what is under way comes to nothing. */
  readonly onReset?: () => void;
}

/** One PCI function: what is on the bus at one requester id. */
export class PciFunction implements AtsFunction {
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
  readonly ats: AtsCapability | undefined;
  /** Its own; `pageRequests` is what it asks through. */
  readonly pri: PriCapability | undefined;
  readonly pasid: PasidCapability | undefined;
  readonly sriov: SriovCapability | undefined;
  readonly acs: AcsCapability | undefined;
  /** Undefined where it is no virtual function. */
  readonly physicalFunction: PciFunction | undefined;
  readonly isMultifunction: boolean;
  readonly dma: DmaPort;
  /** ATS and page requests. */
  readonly atsPort: AtsPort;
  /** What IOMMU core knows it as. */
  readonly device: Device;
  readonly #onReset: () => void;
  readonly #onGroupResponse: (message: GroupResponseMessage) => void;
  readonly #extended: readonly ExtendedCapability[];

  constructor(options: FunctionOptions, path: DmaPath) {
    const { address, identity, interruptPin = 0, msi, msix, express } = options;
    this.address = address;
    this.bdf = formatPciAddress(address);
    this.requesterId = requesterId(address);
    this.identity = identity;
    this.physicalFunction = options.physicalFunction;
    this.device = new Device(
      this.bdf,
      // C3: a virtual function asks for pages through its physical one.
      options.physicalFunction?.pri
        ? { ...options.device, sharesPageRequests: true }
        : options.device,
    );
    this.#onReset = options.onReset ?? (() => undefined);
    this.msi = msi && new MsiCapability(msi);
    this.msix = msix && new MsixCapability(msix, () => this.interrupts.update());
    this.express = express && new ExpressCapability(express);
    this.ats = options.ats && new AtsCapability(options.ats);
    this.pri = options.pri && new PriCapability(options.pri);
    this.pasid = options.pasid && new PasidCapability(options.pasid);
    this.sriov = options.sriov && new SriovCapability(options.sriov);
    this.acs = options.acs === undefined ? undefined : new AcsCapability(options.acs);
    this.isMultifunction = options.multifunction ?? false;
    this.#onGroupResponse = options.onGroupResponse ?? (() => undefined);
    this.#extended = this.#checkExtended();
    this.pageRequests?.onForget.add((id) => {
      if (id === undefined || id === this.requesterId) options.onPageRequestsForgotten?.();
    });
    this.interrupts = new Interrupts(this.config, {
      pin: interruptPin,
      msi: this.msi,
      msix: this.msix,
    });
    this.bars = this.#makeBars(options.bars ?? []);
    this.#fillConfig(identity, interruptPin);
    this.atsPort = new AtsPort(this, path);
    this.dma = new DmaPort(this.bdf, this.device, path, {
      isMaster: () => this.isBusMaster,
      allowsPasid: (pasid, mode) => this.allowsPasid(pasid, mode),
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

  /** What it asks for pages through: a virtual function, its physical one's. Undefined: it can not. */
  get pageRequests(): PriCapability | undefined {
    return (this.physicalFunction ?? this).pri;
  }

  /** What decides about its PASIDs: a virtual function's is its physical one's. */
  get pasids(): PasidCapability | undefined {
    return (this.physicalFunction ?? this).pasid;
  }

  /** Whether its requests may have this PASID now; `mode` are bits of `RequestMode`. */
  allowsPasid(pasid: number, mode: number): boolean {
    return this.pasids?.allows(pasid, mode) ?? false;
  }

  /** From the IOMMU. An invalidation goes to the model, which completes it by `atsPort`. False: ATS is off or absent. */
  invalidate(request: InvalidateRequest): boolean {
    if (this.ats?.enabled !== true) return false;
    this.ats.onInvalidate(request);
    return true;
  }

  /** From the IOMMU: the answer to a group of page requests. Unexpected ones are noted and go no further. */
  groupResponse(message: GroupResponseMessage): void {
    const isExpected = this.pageRequests?.accept(this.requesterId, message) ?? false;
    this.atsPort.answered(message, isExpected);
    if (isExpected) this.#onGroupResponse(message);
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
    this.pageRequests?.forget(this.physicalFunction ? this.requesterId : undefined);
    this.#updateExtended();
    this.interrupts.reset();
    this.device.resetPageRequests();
  }

  /** After `config.set` or `config.restore`: what follows from config space follows. */
  update(): void {
    this.#updateExtended();
    this.interrupts.update();
  }

  #updateExtended(): void {
    for (const capability of this.#extended) capability.update?.();
  }

  #checkExtended(): ExtendedCapability[] {
    const { acs, ats, sriov, pri, pasid } = this;
    if (this.physicalFunction && (sriov || pri || pasid)) {
      throw new RangeError(`${this.bdf} is a virtual function: no SR-IOV, PRI or PASID of its own`);
    }
    const all = [acs, ats, sriov, pri, pasid].filter((one) => one !== undefined);
    if (all.length > 0 && !this.express) {
      throw new RangeError(`${this.bdf} has extended capabilities and is not PCI Express`);
    }
    return all;
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
      headerRegisters(identity, interruptPin, this.isMultifunction).map((one) =>
        one.at === CONFIG.Status ? { ...one, value: statusValue(capabilities) } : one,
      ),
    );
    for (const bar of this.bars) if (bar) this.config.add(bar.registers());
    addCapabilities(this.config, capabilities);
    addExtendedCapabilities(this.config, this.#extended);
  }

  #written(): void {
    if (this.express?.takeResetRequest()) this.reset();
    else this.update();
  }
}
