// SPDX-License-Identifier: Apache-2.0

/** Trace events that tell of a request that VT-d refused: one that is recorded, one that is not to be. */
export const REFUSAL_EVENTS = ['vtd_dmar_fault', 'vtd_fault_disabled'] as const;

const REFUSED = /^vtd_dmar_fault sid (0x[0-9a-f]+)|^vtd_fault_disabled/;

/** How often requests of a source were refused, by the lines of QEMU's trace: a device that has no status of its own has no other. */
export function refusals(lines: readonly string[], sourceId: number): number {
  return lines.filter((line) => {
    const found = REFUSED.exec(line);
    return found && (found[1] === undefined || Number(found[1]) === sourceId);
  }).length;
}
