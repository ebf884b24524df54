// SPDX-License-Identifier: Apache-2.0
/** Why a DMA goes where it goes, or nowhere: the tables that it passes, entry by entry, and the map call behind the leaf. */
import type { Device } from '../iommu/device.ts';
import type { Area } from '../iommufd/area.ts';
import { IommufdDevice } from '../iommufd/device.ts';
import { Prot } from '../iommu/domain.ts';
import type { Machine } from './machine.ts';

const hex = (value: bigint): string => `0x${value.toString(16)}`;

/** @param bdf `0000:00:02.0` @param pasid 0 for a request without one. RangeError where there is no such function */
export function explain(machine: Machine, bdf: string, pasid: number, iova: bigint): string[] {
  const fn = machine.pciDevices.find((one) => one.bdf === bdf);
  if (!fn) {
    const all = machine.pciDevices.map((one) => one.bdf).join(', ') || 'none';
    throw new RangeError(`there is no PCI function ${bdf}; those of the machine: ${all}`);
  }
  const way = machine.translatorOf(fn)?.explain?.(fn.device, pasid, iova);
  const from = `${bdf}${pasid === 0 ? '' : `, PASID ${pasid},`} at ${hex(iova)}`;
  if (!way) return [`${from}: its IOMMU can not tell`];
  return [`${from}:`, ...way.lines, ...mapsBehind(machine, fn.device, pasid, way.address)];
}

/** What iommufd knows of the address in the table that the device is attached to. */
function mapsBehind(machine: Machine, device: Device, pasid: number, address: bigint): string[] {
  for (const { objects } of machine.iommufd.contexts) {
    for (const object of objects) {
      if (!(object instanceof IommufdDevice) || object.device !== device) continue;
      const hwpt = object.group.attachments.get(pasid)?.hwpt;
      if (!hwpt) return [`device ${object.id} of iommufd is attached to nothing there`];
      const { paging } = hwpt;
      const attached = `attached to hardware page table ${hwpt.id}`;
      if (!paging) return [`${attached}, which has no address space`];
      const { ioas } = paging;
      const area = ioas.table.areas.first(address, address);
      const on = hwpt === paging ? '' : `, a guest's table on ${paging.id}`;
      return [
        `${attached}${on}, IOAS ${ioas.id}: ${area ? mapText(area) : `no map at ${hex(address)}`}`,
      ];
    }
  }
  return ['no program has bound the device to iommufd'];
}

function mapText({ start, last, prot, pages, startByte }: Area): string {
  const { source } = pages;
  const from = {
    user: () => `user_va ${hex(('address' in source ? source.address : 0n) + BigInt(startByte))}`,
    file: () => 'a file',
    dmabuf: () => 'a DMA-buf',
  }[source.kind]();
  const rights = [prot & Prot.READ ? 'readable' : '', prot & Prot.WRITE ? 'writable' : ''];
  return `the map at [${hex(start)}, ${hex(last)}] of ${from}, ${rights.filter(Boolean).join(' and ')}`;
}
