// SPDX-License-Identifier: Apache-2.0

/** Where a function is: what Linux writes as `0000:00:02.0` and people call a BDF. */
export interface PciAddress {
  /** Segment group, 0 to 0xffff. */
  readonly domain: number;
  readonly bus: number;
  /** 0 to 31. */
  readonly device: number;
  /** 0 to 7. */
  readonly function: number;
}

const PATTERN = /^(?:([0-9a-f]{4}):)?([0-9a-f]{2}):([01][0-9a-f])\.([0-7])$/i;

/** Reads `0000:00:02.0`, or `00:02.0` in domain 0; undefined where it is no address. */
export function parsePciAddress(text: string): PciAddress | undefined {
  const match = PATTERN.exec(text);
  if (!match) return undefined;
  const [domain = 0, bus = 0, device = 0, fn = 0] = match
    .slice(1)
    .map((digits: string | undefined) => Number.parseInt(digits ?? '0', 16));
  return { domain, bus, device, function: fn };
}

const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');

/** As Linux names it in sysfs: `0000:00:02.0`. */
export function formatPciAddress(address: PciAddress): string {
  const { domain, bus, device } = address;
  return `${hex(domain, 4)}:${hex(bus, 2)}:${hex(device, 2)}.${address.function}`;
}

/** What a request carries to say whose it is: bus 15:8, device 7:3, function 2:0. Unique in a domain. */
export const requesterId = ({ bus, device, function: fn }: PciAddress): number =>
  (bus << 8) | (device << 3) | fn;

/** The address that a requester id of 16 bits stands for. */
export const pciAddressOf = (domain: number, id: number): PciAddress => ({
  domain,
  bus: id >>> 8,
  device: (id >>> 3) & 0x1f,
  function: id & 7,
});
