// SPDX-License-Identifier: Apache-2.0
/**
 * Which capabilities a client sees. Those whose length is known are shown; others are taken out of the chain, so that no client
 * follows into registers that nobody has judged. Facts of Linux drivers/vfio/pci/vfio_pci_config.c.
 */
import type { ConfigSpace } from '../pci/config_space.ts';
import * as regs from './pci_regs.ts';

type Length = number | ((config: ConfigSpace, at: number) => number);

const msiLength: Length = (config, at) => {
  const flags = config.read(at + regs.PCI_MSI_FLAGS, 2);
  return (
    10 + (flags & regs.PCI_MSI_FLAGS_64BIT ? 4 : 0) + (flags & regs.PCI_MSI_FLAGS_MASKBIT ? 10 : 0)
  );
};

/** An endpoint of the root complex has no link, and so no registers of one. */
const expressLength: Length = (config, at) => {
  const flags = config.read(at + regs.PCI_EXP_FLAGS, 2);
  const isIntegrated = (flags & regs.PCI_EXP_FLAGS_TYPE) >> 4 === regs.PCI_EXP_TYPE_RC_END;
  if ((flags & regs.PCI_EXP_FLAGS_VERS) === 1) return isIntegrated ? 0x0c : 0x14;
  return isIntegrated ? 0x2c : 0x34;
};

/** Bytes of the capabilities that are shown, by id. Linux also shows PCI-X, HyperTransport and SATA, which no model here has. */
const lengths: Readonly<Record<number, Length>> = {
  [regs.PCI_CAP_ID_PM]: 8,
  [regs.PCI_CAP_ID_AGP]: 12,
  [regs.PCI_CAP_ID_VPD]: 8,
  [regs.PCI_CAP_ID_MSI]: msiLength,
  [regs.PCI_CAP_ID_VNDR]: (config, at) => config.read(at + regs.PCI_CAP_FLAGS, 1),
  [regs.PCI_CAP_ID_EXP]: expressLength,
  [regs.PCI_CAP_ID_MSIX]: 12,
  [regs.PCI_CAP_ID_AF]: 6,
};

const vendorLength: Length = (config, at) => config.read(at + 4, 4) >>> 20;

/** The same of extended ones. PASID is not among them: Linux hides it. VC, MFVC, DPA and TPH, which it shows, no model here has. */
const extendedLengths: Readonly<Record<number, Length>> = {
  [regs.PCI_EXT_CAP_ID_ERR]: 0x2c,
  [regs.PCI_EXT_CAP_ID_DSN]: 12,
  [regs.PCI_EXT_CAP_ID_PWR]: 16,
  [regs.PCI_EXT_CAP_ID_VNDR]: vendorLength,
  [regs.PCI_EXT_CAP_ID_ACS]: (config, at) => {
    const hasEgressControl = (config.read(at + 4, 1) & 0x20) !== 0;
    if (!hasEgressControl) return 8;
    const bits = config.read(at + 5, 1);
    return 8 + (bits === 0 ? 256 : Math.ceil(bits / 32) * 32) / 8;
  },
  [regs.PCI_EXT_CAP_ID_ARI]: 8,
  [regs.PCI_EXT_CAP_ID_ATS]: 8,
  [regs.PCI_EXT_CAP_ID_SRIOV]: 64,
  [regs.PCI_EXT_CAP_ID_MCAST]: 40,
  [regs.PCI_EXT_CAP_ID_PRI]: 16,
  [regs.PCI_EXT_CAP_ID_REBAR]: (config, at) => 4 + ((config.read(at + 8, 1) & 0xe0) >> 5) * 8,
  [regs.PCI_EXT_CAP_ID_LTR]: 8,
  [regs.PCI_EXT_CAP_ID_DVSEC]: vendorLength,
};

/** 0: hidden. A device that states more than there is room for gets what there is. */
function lengthOf(
  length: Length | undefined,
  config: ConfigSpace,
  at: number,
  room: number,
): number {
  const bytes = typeof length === 'function' ? length(config, at) : (length ?? 0);
  return Math.min(bytes, room);
}

/** A stretch of config space with one owner: the header, a capability, or the anchor of a hidden first extended one. */
export interface ConfigPart {
  readonly start: number;
  /** Half-open. */
  readonly end: number;
  /** The capability's id; 0 for the header. */
  readonly id: number;
}

/** What `showCapabilities` found: the parts in order, and where MSI is. */
export interface Shown {
  readonly parts: readonly ConfigPart[];
  readonly msiAt: number | undefined;
}

const copy = (config: ConfigSpace, view: DataView, start: number, bytes: number): void => {
  for (let at = start; at < start + bytes; at++) view.setUint8(at, config.read(at, 1));
};

/**
 * Fills the client's copy of config space: the header, and each capability that is shown. The pointers in the copy pass over
 * the hidden ones.
 */
export function showCapabilities(config: ConfigSpace, view: DataView): Shown {
  copy(config, view, 0, regs.PCI_STD_HEADER_SIZEOF);
  const parts: ConfigPart[] = [{ start: 0, end: regs.PCI_STD_HEADER_SIZEOF, id: 0 }];
  const standard = showStandard(config, view);
  parts.push(...standard);
  const isExpress = standard.some(({ id }) => id === regs.PCI_CAP_ID_EXP);
  if (view.byteLength > regs.PCI_CFG_SPACE_SIZE && isExpress && config.read(0x100, 4) !== 0) {
    parts.push(...showExtended(config, view));
  }
  return { parts, msiAt: standard.find(({ id }) => id === regs.PCI_CAP_ID_MSI)?.start };
}

function showStandard(config: ConfigSpace, view: DataView): ConfigPart[] {
  const parts: ConfigPart[] = [];
  if (!(config.read(regs.PCI_STATUS, 2) & regs.PCI_STATUS_CAP_LIST)) return parts;
  let previous = regs.PCI_CAPABILITY_LIST;
  let at = config.read(regs.PCI_CAPABILITY_LIST, 1);
  // The chain comes from the device: a loop in it must end.
  for (let left = (256 - 64) / regs.PCI_CAP_SIZEOF; at !== 0 && left > 0; left--) {
    const id = config.read(at, 1);
    const next = config.read(at + regs.PCI_CAP_LIST_NEXT, 1);
    const bytes = lengthOf(lengths[id], config, at, regs.PCI_CFG_SPACE_SIZE - at);
    if (bytes === 0) view.setUint8(previous, next);
    else {
      copy(config, view, at, bytes);
      parts.push({ start: at, end: at + bytes, id });
      if (id === regs.PCI_CAP_ID_PM) hidePme(view, at);
      previous = at + regs.PCI_CAP_LIST_NEXT;
    }
    at = next;
  }
  if (parts.length === 0) {
    const status = view.getUint16(regs.PCI_STATUS, true);
    view.setUint16(regs.PCI_STATUS, status & ~regs.PCI_STATUS_CAP_LIST, true);
  }
  return parts;
}

/** Power management events are the host's. */
function hidePme(view: DataView, at: number): void {
  const pmc = at + regs.PCI_PM_PMC;
  const control = at + regs.PCI_PM_CTRL;
  view.setUint16(pmc, view.getUint16(pmc, true) & ~regs.PCI_PM_CAP_PME_MASK, true);
  view.setUint16(control, view.getUint16(control, true) & ~regs.PCI_PM_CTRL_PME, true);
}

function showExtended(config: ConfigSpace, view: DataView): ConfigPart[] {
  const parts: ConfigPart[] = [];
  let previous: number | undefined;
  let shown = 0;
  let at = regs.PCI_CFG_SPACE_SIZE;
  const most = (regs.PCI_CFG_SPACE_EXP_SIZE - regs.PCI_CFG_SPACE_SIZE) / regs.PCI_CAP_SIZEOF;
  for (let left = most; at >= regs.PCI_CFG_SPACE_SIZE && left > 0; left--) {
    const header = config.read(at, 4);
    const id = header & 0xffff;
    const next = (header >>> 20) & 0xffc;
    const bytes = lengthOf(extendedLengths[id], config, at, regs.PCI_CFG_SPACE_EXP_SIZE - at);
    if (bytes === 0 && previous !== undefined) {
      const kept = view.getUint32(previous, true) & 0x000f_ffff;
      view.setUint32(previous, (kept | (next << 20)) >>> 0, true);
    } else {
      // The first has a fixed place: where it is hidden, a header without an id stays to carry the chain.
      const part = { start: at, end: at + (bytes || regs.PCI_CAP_SIZEOF), id };
      copy(config, view, part.start, part.end - part.start);
      if (bytes === 0) view.setUint32(at, (next << 20) >>> 0, true);
      else shown++;
      parts.push(part);
      previous = at;
    }
    at = next;
  }
  if (shown === 0) view.setUint32(regs.PCI_CFG_SPACE_SIZE, 0, true);
  return parts;
}
