// SPDX-License-Identifier: Apache-2.0

/** Makes QEMU say each access that no memory and no device took. */
export const REFUSAL_LOG = 'invalid_mem';

const REFUSED = /^Invalid (?:read|write) at addr /;

/**
 * Whether an access was refused, by what QEMU said meanwhile: a device that has no status of its own has no other. Faults that VT-d
 * reports are not the same: some accesses are refused without one.
 */
export const hasRefused = (lines: readonly string[]): boolean =>
  lines.some((line) => REFUSED.test(line));
