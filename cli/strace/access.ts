// SPDX-License-Identifier: Apache-2.0
/** Reads and writes of a device's regions, as strace would show them if it knew what is where. */
import type { Access } from '../../host/observer.ts';
import { VFIO_PCI_CONFIG_REGION_INDEX, vfio_pci_region } from '../../src/abi/vfio.ts';
import type { DeviceFile } from '../../src/kernel/file.ts';
import { VfioDeviceFile } from '../../src/vfio/device_file.ts';
import { regionAt } from '../../src/vfio/regions.ts';
import type { Style } from '../style.ts';
import { resultText } from './ioctl.ts';
import { recordsText } from './structure.ts';

/** Bytes that are printed; strace shows as many. */
const SHOWN_BYTES = 32;

const printable = new Map([
  [0x09, '\\t'],
  [0x0a, '\\n'],
  [0x0d, '\\r'],
  [0x22, '\\"'],
  [0x5c, '\\\\'],
]);

/** Bytes as a C string: in hexadecimal where one of them is no character. */
export function bytesText(bytes: Uint8Array, total: number): string {
  const part = bytes.subarray(0, SHOWN_BYTES);
  const isText = part.every((byte) => (byte >= 0x20 && byte < 0x7f) || printable.has(byte));
  const text = Array.from(part, (byte) =>
    isText
      ? (printable.get(byte) ?? String.fromCharCode(byte))
      : `\\x${byte.toString(16).padStart(2, '0')}`,
  ).join('');
  return `"${text}"${total > part.length ? '...' : ''}`;
}

const regionNames = new Map<number, string>(
  Object.entries(vfio_pci_region).map(([name, index]) => [index, name.replace(/_INDEX$/, '')]),
);
/** Bytes of a register's width as a number; undefined for other widths. */
function valueOf(bytes: Uint8Array): bigint | undefined {
  if (![1, 2, 4, 8].includes(bytes.length)) return undefined;
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

/** `VFIO_PCI_BAR0_REGION+0x98 /* DMA command: 0x5 *\/`: what is at a byte of a device's file. */
function placeText(file: DeviceFile, { offset: position, bytes }: Access): string {
  if (!(file instanceof VfioDeviceFile) || position < 0n) return `0x${position.toString(16)}`;
  const { index, offset } = regionAt(position);
  const region = regionNames.get(index);
  if (region === undefined) return `0x${position.toString(16)}`;
  const { bars, config } = file.device.pci.fn;
  const name =
    index === VFIO_PCI_CONFIG_REGION_INDEX
      ? config.registers.find(({ at }) => at === offset)?.register.name
      : bars[index]?.handler.nameAt?.(offset);
  const place = `${region}+0x${offset.toString(16)}`;
  if (name === undefined) return place;
  const value = valueOf(bytes);
  return `${place} /* ${name}${value === undefined ? '' : `: 0x${value.toString(16)}`} */`;
}

/** `[{flags=0, dev_id=2, …}, {…}]`: the records that moved through a queue; undefined where there were none. */
function recordsMoved(
  file: DeviceFile,
  { write, bytes, count, result }: Access,
): string | undefined {
  const type = write ? file.records?.write : file.records?.read;
  if (file.records === undefined || type === undefined || bytes.length < type.size)
    return undefined;
  if (!write && !file.records.repeats) {
    const [first] = recordsText(type, bytes.subarray(0, type.size));
    const rest = bytes.subarray(type.size);
    return rest.length === 0 ? first : `${first} ${bytesText(rest, result - type.size)}`;
  }
  const texts = recordsText(type, bytes);
  if (texts.length * type.size < (write ? count : result)) texts.push('...');
  return `[${texts.join(', ')}]`;
}

/** `pread(5, "\x34\x12", 2, VFIO_PCI_CONFIG_REGION+0x0) = 2`, `read(6, [{flags=0, dev_id=2, …}], 4096) = 40` */
export function accessText(fd: number, file: DeviceFile, access: Access, style: Style): string {
  const { name, write, count, bytes, result, why } = access;
  const called = name.replace(/64$/, '');
  if (file.records !== undefined) {
    const none = bytes.length === 0 && result !== 0;
    const data = recordsMoved(file, access) ?? (none ? '...' : bytesText(bytes, bytes.length));
    return `${called}(${fd}, ${data}, ${count}) = ${resultText({ value: result, why }, style)}`;
  }
  const moved = write ? count : Math.max(0, result);
  const data = bytes.length === 0 && count > 0 ? '...' : bytesText(bytes, moved);
  const place = placeText(file, access);
  return `${called}(${fd}, ${data}, ${count}, ${place}) = ${resultText({ value: result, why }, style)}`;
}
