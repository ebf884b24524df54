// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import { deviceModels, reservedKinds } from '../../src/machine/description.ts';
import { formatPciAddress, parsePciAddress } from '../../src/pci/address.ts';

const kinds = Object.keys(reservedKinds) as [keyof typeof reservedKinds];

const text = z.string({ error: 'expected a text' }).min(1, 'must not be empty');
const flag = z.boolean({ error: 'expected true or false' });
const address = z
  .bigint({ error: 'expected an address such as 0xfee00000' })
  .refine((value) => value >= 0n && value < 2n ** 64n, 'must be from 0 to 0xffffffffffffffff');

const isList = { error: 'expected a list' };
const isMap = (keys: readonly string[]) => ({
  error: (issue: { code?: string | undefined; keys?: readonly string[] }) =>
    issue.code === 'unrecognized_keys'
      ? `there is no key "${issue.keys?.join('", "') ?? ''}" here; known: ${keys.join(', ')}`
      : `expected a map with ${keys.join(', ')}`,
});

const reserved = z
  .strictObject(
    {
      start: address,
      last: address,
      kind: z.enum(kinds, { error: `expected one of ${kinds.join(', ')}` }),
    },
    isMap(['start', 'last', 'kind']),
  )
  .refine(
    ({ start, last }) => start <= last,
    'ends before it starts: "last" belongs to the region',
  );

const device = z
  .strictObject(
    {
      name: text,
      group: text.optional(),
      pasid: flag.optional(),
      dirtyTracking: flag.optional(),
      reserved: z.array(reserved, isList).optional(),
    },
    isMap(['name', 'group', 'pasid', 'dirtyTracking', 'reserved']),
  )
  .transform(({ group, pasid, dirtyTracking, reserved: regions, name }) => ({
    name,
    ...(group !== undefined && { group }),
    ...(pasid !== undefined && { pasid }),
    ...(dirtyTracking !== undefined && { dirtyTracking }),
    ...(regions !== undefined && { reserved: regions }),
  }));

const DMA_BITS = 'expected a number of bits from 1 to 64';

const pciDevice = z
  .strictObject(
    {
      name: text,
      model: z.enum(deviceModels, { error: `expected one of ${deviceModels.join(', ')}` }),
      address: z
        .string({ error: 'expected a PCI address such as "0000:00:02.0"' })
        .refine(
          (value) => parsePciAddress(value) !== undefined,
          'is no PCI address such as "0000:00:02.0": domain, bus, device and function in hexadecimal',
        ),
      group: text.optional(),
      dmaBits: z.bigint({ error: DMA_BITS }).min(1n, DMA_BITS).max(64n, DMA_BITS).optional(),
      reserved: z.array(reserved, isList).optional(),
    },
    isMap(['name', 'model', 'address', 'group', 'dmaBits', 'reserved']),
  )
  .transform(({ name, model, address, group, dmaBits, reserved: regions }) => ({
    name,
    model,
    address,
    ...(group !== undefined && { group }),
    ...(dmaBits !== undefined && { dmaBits: Number(dmaBits) }),
    ...(regions !== undefined && { reserved: regions }),
  }));

const iommuKeys = isMap(['name', 'driver', 'devices']);

const mockIommu = z.strictObject(
  { name: text, driver: z.literal('mock'), devices: z.array(device, isList).default([]) },
  iommuKeys,
);

const pagingIommu = z.strictObject(
  { name: text, driver: z.literal('paging'), devices: z.array(pciDevice, isList).default([]) },
  iommuKeys,
);

const iommu = z.discriminatedUnion('driver', [mockIommu, pagingIommu], {
  error: (issue) =>
    issue.code === 'invalid_union'
      ? 'expected mock (the test driver) or paging (PCI devices that do DMA)'
      : 'expected a map with name, driver, devices',
});

/** Names that two of a list share are mistakes of the second. */
function checkNames(
  items: readonly { readonly name: string; readonly path: readonly PropertyKey[] }[],
  report: (path: readonly PropertyKey[], message: string) => void,
): void {
  const seen = new Set<string>();
  for (const { name, path } of items) {
    if (seen.has(name)) report([...path, 'name'], `the name "${name}" is used already`);
    seen.add(name);
  }
}

/** One function at each address, however it is spelt. */
function checkAddresses(
  iommus: readonly z.output<typeof iommu>[],
  report: (path: readonly PropertyKey[], message: string) => void,
): void {
  const seen = new Map<string, string>();
  for (const [i, { driver, devices }] of iommus.entries()) {
    if (driver !== 'paging') continue;
    for (const [j, { address, name }] of devices.entries()) {
      const parsed = parsePciAddress(address);
      if (!parsed) continue;
      const bdf = formatPciAddress(parsed);
      const other = seen.get(bdf);
      const path = ['iommus', i, 'devices', j, 'address'];
      if (other !== undefined) report(path, `"${other}" is at ${bdf} already`);
      seen.set(bdf, name);
    }
  }
}

/** A machine file: docs/machines.md shows it with every key. */
export const machineSchema = z
  .strictObject(
    {
      name: text,
      summary: text.default('a machine of your own'),
      iommus: z.array(iommu, isList),
    },
    isMap(['name', 'summary', 'iommus']),
  )
  .superRefine(({ iommus }, context) => {
    const report = (path: readonly PropertyKey[], message: string): void => {
      context.addIssue({ code: 'custom', path: [...path], message });
    };
    checkNames(
      iommus.map(({ name }, i) => ({ name, path: ['iommus', i] })),
      report,
    );
    const devices = iommus.flatMap(({ devices: all }, i) =>
      all.map(({ name }, j) => ({ name, path: ['iommus', i, 'devices', j] })),
    );
    checkNames(devices, report);
    checkAddresses(iommus, report);
  });
