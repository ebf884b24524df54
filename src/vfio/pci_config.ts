// SPDX-License-Identifier: Apache-2.0
import type { ConfigWidth } from '../pci/config_space.ts';
import type { PciFunction } from '../pci/function.ts';
import { PciConfigBars } from './pci_config_bars.ts';
import { type ConfigPart, showCapabilities } from './pci_config_caps.ts';
import {
  capabilityPermissions,
  extendedPermissions,
  headerPermissions,
  msiPermissions,
  type PermissionBits,
  permissionBits,
} from './pci_config_perm.ts';
import * as regs from './pci_regs.ts';

/** What config space has effects on, elsewhere in vfio-pci. */
export interface ConfigEffects {
  /** MSI is what SET_IRQS enabled. */
  readonly isMsi: boolean;
  /** Most vectors that a client can enable by Multiple Message Enable, as a power of 2. */
  readonly msiQmax: number;
  /** The client's Interrupt Disable has changed. */
  intxDisabled(disabled: boolean): void;
  /** The client asked for a function level reset. */
  resetFunction(): void;
}

const header = permissionBits(headerPermissions);
const byId = (table: Readonly<Record<number, Parameters<typeof permissionBits>[0]>>) =>
  new Map(Object.entries(table).map(([id, bits]) => [Number(id), permissionBits(bits)]));
const capabilities = byId(capabilityPermissions);
const extended = byId(extendedPermissions);
/** Registers of these are the vendor's: written through. */
const rawCapabilities: readonly number[] = [regs.PCI_CAP_ID_VNDR];
const rawExtended: readonly number[] = [regs.PCI_EXT_CAP_ID_VNDR, regs.PCI_EXT_CAP_ID_DVSEC];

const ones = (width: ConfigWidth): number => 2 ** (8 * width) - 1;

/** How many bytes of `left` one access at `pos` takes, where `run` bytes belong together: aligned, at most 4. */
function chunk(pos: number, left: number, run: number): ConfigWidth {
  const bytes = Math.min(left, run);
  if (bytes >= 4 && pos % 4 === 0) return 4;
  return bytes >= 2 && pos % 2 === 0 ? 2 : 1;
}

/**
 * The config space that a client of vfio-pci sees (vfio_pci_config.c): the hardware's, with a copy over the bits that a client may
 * think it controls. It lives from bind to close.
 */
export class PciConfig {
  /** 256, or 4096 of PCI Express. */
  readonly bytes: number;
  readonly #fn: PciFunction;
  readonly #effects: ConfigEffects;
  readonly #copy: DataView;
  readonly #partAt: (ConfigPart | undefined)[];
  readonly #msi: PermissionBits;
  readonly #bars: PciConfigBars;
  #intxDisabled = false;

  constructor(fn: PciFunction, effects: ConfigEffects) {
    this.#fn = fn;
    this.#effects = effects;
    this.bytes = fn.express ? regs.PCI_CFG_SPACE_EXP_SIZE : regs.PCI_CFG_SPACE_SIZE;
    this.#copy = new DataView(new ArrayBuffer(this.bytes));
    const { parts, msiAt } = showCapabilities(fn.config, this.#copy);
    this.#partAt = Array.from({ length: this.bytes });
    for (const part of parts) this.#partAt.fill(part, part.start, part.end);
    const flags = msiAt === undefined ? 0 : fn.config.read(msiAt + regs.PCI_MSI_FLAGS, 2);
    this.#msi = permissionBits(msiPermissions(flags));
    this.#bars = new PciConfigBars(fn, this.#copy);
  }

  /** What the client believes about Memory Space Enable: without it its accesses to BARs are refused. */
  get isMemoryEnabled(): boolean {
    return (this.#copy.getUint16(regs.PCI_COMMAND, true) & regs.PCI_COMMAND_MEMORY) !== 0;
  }

  /** The client sees an interrupt pin. */
  get hasInterruptPin(): boolean {
    return this.#copy.getUint8(regs.PCI_INTERRUPT_PIN) !== 0;
  }

  /** Reads at a byte offset; false (EFAULT) where that goes beyond the end. */
  read(offset: number, into: Uint8Array): boolean {
    return this.#access(offset, into.length, (pos, width, part, done) => {
      const value = this.#readChunk(pos, width, part);
      for (let i = 0; i < width; i++) into[done + i] = (value >>> (8 * i)) & 0xff;
    });
  }

  /** Writes; false (EFAULT) where that goes beyond the end. What is not writable stays as it is. */
  write(offset: number, from: Uint8Array): boolean {
    return this.#access(offset, from.length, (pos, width, part, done) => {
      let value = 0;
      for (let i = 0; i < width; i++) value |= (from[done + i] ?? 0) << (8 * i);
      this.#writeChunk(pos, width, value >>> 0, part);
    });
  }

  #access(
    offset: number,
    length: number,
    one: (pos: number, width: ConfigWidth, part: ConfigPart | undefined, done: number) => void,
  ): boolean {
    if (offset < 0 || offset >= this.bytes || offset + length > this.bytes) return false;
    for (let done = 0; done < length;) {
      const pos = offset + done;
      const part = this.#partAt[pos];
      let run = 1;
      while ((pos + run) % 4 !== 0 && this.#partAt[pos + run] === part) run++;
      const width = chunk(pos, length - done, run);
      one(pos, width, part, done);
      done += width;
    }
    return true;
  }

  #bitsOf({ id, start }: ConfigPart): PermissionBits | undefined {
    if (start === 0) return header;
    if (start >= regs.PCI_CFG_SPACE_SIZE) return extended.get(id);
    return id === regs.PCI_CAP_ID_MSI ? this.#msi : capabilities.get(id);
  }

  #readChunk(pos: number, width: ConfigWidth, part: ConfigPart | undefined): number {
    if (!part) return this.#fn.config.read(pos, width);
    if (part.start === 0 && PciConfigBars.holds(pos)) this.#bars.fix();
    const bits = this.#bitsOf(part);
    const virtual = bits
      ? mask(bits.virtual, pos - part.start, width)
      : pointerMask(part, pos, width);
    return this.#merged(pos, width, virtual);
  }

  #merged(pos: number, width: ConfigWidth, virtual: number): number {
    if (virtual === ones(width)) return this.#held(pos, width);
    const real = this.#fn.config.read(pos, width);
    return ((real & ~virtual) | (this.#held(pos, width) & virtual)) >>> 0;
  }

  #writeChunk(pos: number, width: ConfigWidth, value: number, part: ConfigPart | undefined): void {
    if (!part || isRaw(part)) {
      this.#fn.config.write(pos, width, value);
      return;
    }
    const bits = this.#bitsOf(part);
    if (!bits) return;
    const offset = pos - part.start;
    if (part.start === 0) this.#writeHeader(pos, width, value);
    else if (part.start >= regs.PCI_CFG_SPACE_SIZE)
      this.#writeBits(pos, width, value, bits, offset);
    else this.#writeCapability(part, pos, width, value, bits);
  }

  /** Virtual and writable bits go to the copy, others that are writable to the hardware. */
  #writeBits(
    pos: number,
    width: ConfigWidth,
    value: number,
    bits: PermissionBits,
    offset: number,
  ): void {
    const writable = mask(bits.writable, offset, width);
    const virtual = mask(bits.virtual, offset, width);
    const toCopy = writable & virtual;
    if (toCopy) this.#hold(pos, width, (this.#held(pos, width) & ~toCopy) | (value & toCopy));
    const toHardware = writable & ~virtual;
    if (toHardware === 0) return;
    const real = this.#fn.config.read(pos, width);
    this.#fn.config.write(pos, width, ((real & ~toHardware) | (value & toHardware)) >>> 0);
  }

  #writeHeader(pos: number, width: ConfigWidth, value: number): void {
    if (pos === regs.PCI_COMMAND) this.#bars.restore(value);
    this.#writeBits(pos, width, value, header, pos);
    if (pos === regs.PCI_COMMAND) {
      // Kept beside the hardware's, to see next time whether a reset took it away.
      const enables = regs.PCI_COMMAND_MEMORY | regs.PCI_COMMAND_IO;
      const held = this.#copy.getUint16(regs.PCI_COMMAND, true);
      this.#copy.setUint16(regs.PCI_COMMAND, (held & ~enables) | (value & enables), true);
    }
    if (pos === regs.PCI_COMMAND || pos === regs.PCI_COMMAND + 1) {
      const held = this.#copy.getUint16(regs.PCI_COMMAND, true);
      const disabled = (held & regs.PCI_COMMAND_INTX_DISABLE) !== 0;
      if (disabled !== this.#intxDisabled) {
        this.#intxDisabled = disabled;
        this.#effects.intxDisabled(disabled);
      }
    }
    if (PciConfigBars.holds(pos)) this.#bars.written();
  }

  #writeCapability(
    part: ConfigPart,
    pos: number,
    width: ConfigWidth,
    value: number,
    bits: PermissionBits,
  ): void {
    const { id, start } = part;
    const offset = pos - start;
    const control = start + regs.PCI_EXP_DEVCTL;
    const before = id === regs.PCI_CAP_ID_EXP ? this.#held(control, 2) : 0;
    this.#writeBits(pos, width, value, bits, offset);
    if (
      id === regs.PCI_CAP_ID_MSI &&
      offset <= regs.PCI_MSI_FLAGS &&
      offset + width >= regs.PCI_MSI_FLAGS
    )
      this.#writeMsiControl(start + regs.PCI_MSI_FLAGS);
    if (id === regs.PCI_CAP_ID_EXP) this.#writeDeviceControl(start, control, before);
  }

  /** MSI is enabled by SET_IRQS alone, with as many vectors as were set there. */
  #writeMsiControl(at: number): void {
    const { isMsi, msiQmax } = this.#effects;
    let flags = this.#held(at, 2);
    if (!isMsi) flags &= ~regs.PCI_MSI_FLAGS_ENABLE;
    if ((flags & regs.PCI_MSI_FLAGS_QSIZE) >> 4 > msiQmax)
      flags = (flags & ~regs.PCI_MSI_FLAGS_QSIZE) | (msiQmax << 4);
    this.#hold(at, 2, flags);
    this.#fn.config.write(at, 2, flags);
  }

  /** The largest payload is the host's; a read request may be set, but not below it. */
  #writeDeviceControl(start: number, control: number, before: number): void {
    const capability = this.#fn.config.read(start + regs.PCI_EXP_DEVCAP, 4);
    const canReset = (capability & regs.PCI_EXP_DEVCAP_FLR) !== 0;
    const held = this.#held(control, 2);
    if (held & regs.PCI_EXP_DEVCTL_BCR_FLR) {
      // Reads 0, whatever becomes of the request.
      this.#hold(control, 2, held & ~regs.PCI_EXP_DEVCTL_BCR_FLR);
      if (canReset) this.#effects.resetFunction();
    }
    const wanted = held & regs.PCI_EXP_DEVCTL_READRQ;
    if (wanted === (before & regs.PCI_EXP_DEVCTL_READRQ)) return;
    const real = this.#fn.config.read(control, 2);
    const payload = (real & regs.PCI_EXP_DEVCTL_PAYLOAD) >> 5;
    const size = Math.max(wanted >> 12, payload);
    this.#fn.config.write(control, 2, (real & ~regs.PCI_EXP_DEVCTL_READRQ) | (size << 12));
  }

  #held(pos: number, width: ConfigWidth): number {
    if (width === 4) return this.#copy.getUint32(pos, true);
    return width === 2 ? this.#copy.getUint16(pos, true) : this.#copy.getUint8(pos);
  }

  #hold(pos: number, width: ConfigWidth, value: number): void {
    if (width === 4) this.#copy.setUint32(pos, value, true);
    else if (width === 2) this.#copy.setUint16(pos, value, true);
    else this.#copy.setUint8(pos, value);
  }
}

const isRaw = ({ id, start }: ConfigPart): boolean =>
  start >= regs.PCI_CFG_SPACE_SIZE
    ? rawExtended.includes(id)
    : start > 0 && rawCapabilities.includes(id);

function mask(bytes: Uint8Array, offset: number, width: ConfigWidth): number {
  let value = 0;
  for (let i = 0; i < width; i++) value |= (bytes[offset + i] ?? 0) << (8 * i);
  return value >>> 0;
}

/** Of a capability without rules only the way to the next is the copy's. */
function pointerMask(part: ConfigPart, pos: number, width: ConfigWidth): number {
  const offset = pos - part.start;
  if (part.start >= regs.PCI_CFG_SPACE_SIZE) return offset < 4 ? ones(width) : 0;
  if (offset === 0 && width > 1) return 0xffff;
  return offset === regs.PCI_CAP_LIST_NEXT ? 0xff : 0;
}
