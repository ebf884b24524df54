// SPDX-License-Identifier: Apache-2.0
/**
 * What sysfs and devtmpfs show of a machine's PCI functions, IOMMUs and groups. Files and formats: Linux drivers/pci/pci-sysfs.c,
 * pci-driver.c, drivers/iommu/iommu.c, iommu-sysfs.c, drivers/vfio/device_cdev.c, and Documentation/ABI/testing/sysfs-bus-pci.
 */
import type { IommuDevice } from '../src/iommu/device.ts';
import { DomainType } from '../src/iommu/domain.ts';
import type { IommuGroup } from '../src/iommu/group.ts';
import { RESV_TYPE_NAMES } from '../src/iommu/reserved.ts';
import type { Bar } from '../src/pci/bar.ts';
import type { PciFunction } from '../src/pci/function.ts';
import { addFaultSettings, addTranslationStruct } from './debugfs_tree.ts';
import { type FileTree, TreeBuilder } from './file_tree.ts';

/** A function that vfio-pci has, with its character device. */
export interface SysfsFunction {
  readonly fn: PciFunction;
  /** `vfio0` */
  readonly cdev: string;
  readonly major: number;
  readonly minor: number;
  /** Its tables in debugfs, where it is behind an IOMMU of Intel's. */
  readonly translationStruct?: (() => string) | undefined;
}

/** A group of VFIO. */
export interface SysfsGroup {
  /** `0`: that of the IOMMU group. */
  readonly name: string;
  readonly major: number;
  readonly minor: number;
}

const DRIVER = '/sys/bus/pci/drivers/vfio-pci';
/** BARs and the expansion ROM. */
const RESOURCES = 7;
/** Bytes of config space of a function of conventional PCI, and of PCI Express. */
const CONFIG_BYTES = 256;
const EXTENDED_CONFIG_BYTES = 4096;

// Flags of `resource` lines. Source: include/linux/ioport.h, and the type bits of the BAR below them.
const IORESOURCE_MEM = 0x200;
const IORESOURCE_PREFETCH = 0x2000;
const IORESOURCE_SIZEALIGN = 0x4_0000;
const IORESOURCE_MEM_64 = 0x10_0000;
const BAR_IS_64 = 0x4;
const BAR_IS_PREFETCHABLE = 0x8;

const hex = (value: number | bigint, digits: number): string =>
  value.toString(16).padStart(digits, '0');
const upper = (value: number, digits: number): string => hex(value, digits).toUpperCase();

const domainNames = new Map<number, string>([
  [DomainType.BLOCKED, 'blocked'],
  [DomainType.IDENTITY, 'identity'],
  [DomainType.UNMANAGED, 'unmanaged'],
  [DomainType.DMA, 'DMA'],
]);

/** The tree of a machine; `nodes` are the device nodes that clients can open. */
export function sysfsTree(
  functions: readonly SysfsFunction[],
  vfioGroups: readonly SysfsGroup[],
  nodes: readonly string[],
): FileTree {
  const builder = new TreeBuilder();
  for (const path of nodes) {
    const folder = path.slice(0, path.lastIndexOf('/'));
    if (folder === '/dev') continue;
    if (!builder.tree.has(folder)) builder.directory(folder);
    builder.device(path);
  }
  addFaultSettings(builder);
  if (functions.length === 0) return builder.tree;
  builder.directory(DRIVER);
  builder.file(`${DRIVER}/uevent`, '', 0o200);
  const groups = new Set<IommuGroup>();
  const iommus = new Set<IommuDevice>();
  for (const one of functions) {
    addFunction(builder, one);
    if (one.translationStruct) addTranslationStruct(builder, one.fn.bdf, one.translationStruct);
    const { group, iommu } = one.fn.device;
    if (group !== undefined) groups.add(group);
    if (iommu !== undefined) iommus.add(iommu);
  }
  for (const group of groups) addGroup(builder, group, functions);
  for (const iommu of iommus) addIommu(builder, iommu, functions);
  for (const group of vfioGroups) addVfioGroup(builder, group);
  return builder.tree;
}

/** `/sys/devices/pci0000:00/0000:00:02.0` */
const homeOf = ({ address, bdf }: PciFunction): string =>
  `/sys/devices/pci${hex(address.domain, 4)}:${hex(address.bus, 2)}/${bdf}`;

/** The way from a folder of sysfs to a path of it, as its links are written. */
function way(from: string, to: string): string {
  const up = from.split('/').length - '/sys'.split('/').length;
  return '../'.repeat(up) + to.slice('/sys/'.length);
}

function addFunction(builder: TreeBuilder, one: SysfsFunction): void {
  const { fn } = one;
  const { identity, bdf, config } = fn;
  const home = homeOf(fn);
  const file = (name: string, text: string | (() => string), mode?: number): void => {
    const line = typeof text === 'string' ? `${text}\n` : (): string => `${text()}\n`;
    builder.file(`${home}/${name}`, line, mode);
  };
  builder.directory(home);
  file('vendor', `0x${hex(identity.vendorId, 4)}`);
  file('device', `0x${hex(identity.deviceId, 4)}`);
  file('subsystem_vendor', `0x${hex(identity.subsystemVendorId, 4)}`);
  file('subsystem_device', `0x${hex(identity.subsystemId, 4)}`);
  file('class', `0x${hex(identity.classCode, 6)}`);
  file('revision', `0x${hex(identity.revisionId, 2)}`);
  file('irq', '0');
  file('numa_node', '-1', 0o644);
  file('enable', () => (fn.isMemoryEnabled ? '1' : '0'), 0o644);
  file('driver_override', 'vfio-pci', 0o644);
  file('modalias', modalias(fn));
  file('uevent', uevent(fn), 0o644);
  file('resource', () => resources(fn));
  const bytes = fn.express ? EXTENDED_CONFIG_BYTES : CONFIG_BYTES;
  builder.file(`${home}/config`, () => config.save().subarray(0, bytes), 0o644);
  builder.link(`${home}/subsystem`, way(home, '/sys/bus/pci'));
  builder.link(`${home}/driver`, way(home, DRIVER));
  const { group, iommu } = fn.device;
  if (group) builder.link(`${home}/iommu_group`, way(home, groupPath(group)));
  if (iommu) builder.link(`${home}/iommu`, way(home, iommuPath(iommu)));
  builder.link(`/sys/bus/pci/devices/${bdf}`, way('/sys/bus/pci/devices', home));
  builder.link(`${DRIVER}/${bdf}`, way(DRIVER, home));
  addCdev(builder, one, home);
}

/** The character device: `vfio-dev/vfio0`. */
function addCdev(builder: TreeBuilder, one: SysfsFunction, home: string): void {
  const { cdev, major, minor } = one;
  const place = `${home}/vfio-dev/${cdev}`;
  builder.directory(`${home}/vfio-dev`);
  builder.directory(place);
  builder.link(`${place}/device`, `../../../${one.fn.bdf}`);
  builder.link(`/sys/class/vfio-dev/${cdev}`, way('/sys/class/vfio-dev', place));
  addNode(builder, place, { class: 'vfio-dev', node: `vfio/devices/${cdev}`, major, minor });
}

/** `/dev/vfio/0`: no device of a bus. */
function addVfioGroup(builder: TreeBuilder, { name, major, minor }: SysfsGroup): void {
  const place = `/sys/devices/virtual/vfio/${name}`;
  builder.directory(place);
  builder.link(`/sys/class/vfio/${name}`, way('/sys/class/vfio', place));
  addNode(builder, place, { class: 'vfio', node: `vfio/${name}`, major, minor });
}

/** What a folder of sysfs says of a character device, and the ways to both by its number. */
function addNode(
  builder: TreeBuilder,
  place: string,
  what: {
    readonly class: string;
    /** Below /dev. */
    readonly node: string;
    readonly major: number;
    readonly minor: number;
  },
): void {
  const { node, major, minor } = what;
  builder.file(`${place}/dev`, `${major}:${minor}\n`);
  builder.file(`${place}/uevent`, `MAJOR=${major}\nMINOR=${minor}\nDEVNAME=${node}\n`, 0o644);
  builder.link(`${place}/subsystem`, way(place, `/sys/class/${what.class}`));
  builder.link(`/sys/dev/char/${major}:${minor}`, way('/sys/dev/char', place));
  builder.link(`/dev/char/${major}:${minor}`, `../${node}`);
}

const groupPath = (group: IommuGroup): string => `/sys/kernel/iommu_groups/${group.id}`;

function addGroup(
  builder: TreeBuilder,
  group: IommuGroup,
  functions: readonly SysfsFunction[],
): void {
  const place = groupPath(group);
  builder.directory(place);
  builder.directory(`${place}/devices`);
  for (const { fn } of functions) {
    if (fn.device.group !== group) continue;
    builder.link(`${place}/devices/${fn.bdf}`, way(`${place}/devices`, homeOf(fn)));
  }
  builder.file(`${place}/type`, () => {
    const type = group.defaultDomain?.type;
    return `${(type === undefined ? undefined : domainNames.get(type)) ?? 'unknown'}\n`;
  });
  builder.file(`${place}/reserved_regions`, () =>
    group
      .resvRegions()
      .map(({ start, last, type }) => {
        return `0x${hex(start, 16)} 0x${hex(last, 16)} ${RESV_TYPE_NAMES[type]}\n`;
      })
      .join(''),
  );
}

const iommuPath = (iommu: IommuDevice): string => `/sys/devices/virtual/iommu/${iommu.name}`;

function addIommu(
  builder: TreeBuilder,
  iommu: IommuDevice,
  functions: readonly SysfsFunction[],
): void {
  const place = iommuPath(iommu);
  builder.directory(place);
  builder.directory(`${place}/devices`);
  for (const { fn } of functions) {
    if (fn.device.iommu !== iommu) continue;
    builder.link(`${place}/devices/${fn.bdf}`, way(`${place}/devices`, homeOf(fn)));
  }
  builder.file(`${place}/uevent`, '', 0o644);
  builder.link(`${place}/subsystem`, way(place, '/sys/class/iommu'));
  builder.link(`/sys/class/iommu/${iommu.name}`, way('/sys/class/iommu', place));
}

function modalias({ identity }: PciFunction): string {
  const { vendorId, deviceId, subsystemVendorId, subsystemId, classCode } = identity;
  const [base, sub, interface_] = [classCode >>> 16, (classCode >>> 8) & 0xff, classCode & 0xff];
  return (
    `pci:v${upper(vendorId, 8)}d${upper(deviceId, 8)}sv${upper(subsystemVendorId, 8)}` +
    `sd${upper(subsystemId, 8)}bc${upper(base, 2)}sc${upper(sub, 2)}i${upper(interface_, 2)}`
  );
}

function uevent(fn: PciFunction): string {
  const { identity, bdf } = fn;
  return [
    'DRIVER=vfio-pci',
    `PCI_CLASS=${upper(identity.classCode, 4)}`,
    `PCI_ID=${upper(identity.vendorId, 4)}:${upper(identity.deviceId, 4)}`,
    `PCI_SUBSYS_ID=${upper(identity.subsystemVendorId, 4)}:${upper(identity.subsystemId, 4)}`,
    `PCI_SLOT_NAME=${bdf}`,
    `MODALIAS=${modalias(fn)}`,
  ].join('\n');
}

function resources(fn: PciFunction): string {
  return Array.from({ length: RESOURCES }, (_, index) => {
    const bar = fn.bars[index];
    const start = bar ? fn.barAddress(index) : 0n;
    const last = bar ? start + BigInt(bar.size) - 1n : 0n;
    return `0x${hex(start, 16)} 0x${hex(last, 16)} 0x${hex(bar ? flagsOf(bar) : 0, 16)}`;
  }).join('\n');
}

function flagsOf({ bits, prefetchable }: Bar): number {
  return (
    IORESOURCE_MEM |
    IORESOURCE_SIZEALIGN |
    (bits === 64 ? IORESOURCE_MEM_64 | BAR_IS_64 : 0) |
    (prefetchable ? IORESOURCE_PREFETCH | BAR_IS_PREFETCHABLE : 0)
  );
}
