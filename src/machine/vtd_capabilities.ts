// SPDX-License-Identifier: Apache-2.0
/** What a machine's description says of the capabilities of a VT-d unit. */
import { Capabilities, LEGACY, SHARING, withFields } from '../hw/vtd/capabilities.ts';
import { CAP_REG, ECAP_REG } from '../hw/vtd/registers.ts';
import type { VtdDescription } from './description.ts';
import { MachineError } from './machine_error.ts';

/** Fields of CAP and ECAP by name, with their widths in bits. The names are those of the specification, and belong to one of the two. */
export const vtdCapabilityFields: ReadonlyMap<string, number> = new Map(
  Object.entries({ ...CAP_REG.fields, ...ECAP_REG.fields }).map(([name, { width }]) => [
    name,
    width,
  ]),
);

/** The fixed registers end before this, those of page requests among them. */
const FIXED_END = 0xf0;

/** The registers that are described, or those of its mode; then single fields. Throws MachineError. */
export function vtdCapabilities(description: VtdDescription): Capabilities {
  const { name, mode = 'scalable', privateData: hasPrivateData = false, haw } = description;
  const base = Capabilities.of(mode === 'legacy' ? LEGACY : SHARING);
  const fields = description.capabilities ?? {};
  for (const [field, value] of Object.entries(fields)) {
    const width = vtdCapabilityFields.get(field);
    if (width === undefined) throw new MachineError(`${name}: there is no capability ${field}`);
    if (!(Number.isInteger(value) && value >= 0 && value < 2 ** width))
      throw new MachineError(`${name}: ${field} has ${width} bits, and ${value} does not fit`);
  }
  const caps = new Capabilities(
    withFields(description.cap ?? base.cap, CAP_REG.fields, fields),
    withFields(description.ecap ?? base.ecap, ECAP_REG.fields, fields),
    { hasPrivateData, ...(haw !== undefined && { haw }) },
  );
  checkPlaces(name, caps);
  return caps;
}

/** Registers for invalidation (IRO) and for faults (FRO) must not lie on others. */
function checkPlaces(name: string, { iotlbAt, recordsAt, records }: Capabilities): void {
  const end = recordsAt + 16 * records;
  const isApart = iotlbAt + 16 <= recordsAt || iotlbAt >= end;
  if (iotlbAt >= FIXED_END && recordsAt >= FIXED_END && isApart) return;
  const at = (place: number): string => `0x${place.toString(16)}`;
  throw new MachineError(
    `${name}: registers at ${at(iotlbAt)} (IRO) and from ${at(recordsAt)} to ${at(end)} (FRO, NFR) lie on each other or on those below ${at(FIXED_END)}`,
  );
}
