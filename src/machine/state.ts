// SPDX-License-Identifier: Apache-2.0
import { IommufdDevice } from '../iommufd/device.ts';
import { HwptPaging } from '../iommufd/hw_pagetable.ts';
import { Ioas } from '../iommufd/ioas.ts';
import type { IommufdObject } from '../iommufd/objects.ts';
import type { Machine } from './machine.ts';

/**
 * What a machine holds for its clients, one fact a line: objects, their users, maps, attachments, pins. A call that fails leaves all of it
 * as it was, unless Linux does not either. Page tables are not in it: where a map failed, Linux keeps tables that it made and that
 * map nothing.
 */
export function machineState({ iommufd, memory }: Machine): string[] {
  const lines = [`${memory.pinCount} stretches of frames are pinned`];
  for (const [index, { objects, accountMode }] of iommufd.contexts.entries()) {
    lines.push(`file ${index}: accounting ${accountMode}`);
    for (const object of objects) lines.push(`file ${index}: ${objectState(object)}`);
  }
  for (const [, group] of iommufd.core.groups.entries())
    lines.push(
      `group ${group.id}: ${group.devices.length} devices, ${group.pasids.size} PASIDs attached`,
    );
  return lines;
}

function objectState(object: IommufdObject): string {
  const facts = `${object.type} ${object.id}, ${object.users} users`;
  if (object instanceof Ioas) return `${facts}, ${spaceState(object)}`;
  if (object instanceof HwptPaging) return `${facts}, on IOAS ${object.ioas.id}`;
  if (!(object instanceof IommufdDevice)) return facts;
  const tables = [...object.group.attachments].map(
    ([pasid, { hwpt, devices }]) => `${pasid}: ${hwpt.id} by ${devices.size}`,
  );
  return `${facts}, attached ${tables.join(', ')}`;
}

function spaceState({ table }: Ioas): string {
  const all = (ranges: Iterable<{ start: bigint; last: bigint }>): string =>
    [...ranges]
      .map(({ start, last }) => `0x${start.toString(16)}-0x${last.toString(16)}`)
      .join(' ');
  const { accesses, domains, alignment } = table;
  return [
    `maps ${all(table.areas)}`,
    `reserved ${all(table.reserved)}`,
    `allowed ${all(table.allowed)}`,
    `${domains.length} domains`,
    `${accesses.size} accesses`,
    `alignment ${alignment}`,
  ].join(', ');
}
