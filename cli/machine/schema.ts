// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import {
  deviceModels,
  reservedKinds,
  vfPageRequestKinds,
  vtdModes,
} from '../../src/machine/description.ts';
import { vtdCapabilityFields } from '../../src/machine/vtd_capabilities.ts';
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

type Given<T> = { [K in keyof T]: Exclude<T[K], undefined> };

/** What a map says: keys that it leaves out are not there at all. */
const given = <T extends object>(fields: T): Given<T> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Given<T>;

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
  .transform(given);

const PCI_KEYS = ['name', 'model', 'address', 'group', 'acs', 'dmaBits', 'reserved'] as const;
/** Those of `iommu_test` alone. */
const TEST_KEYS = ['ats', 'pageRequests', 'pasidBits', 'vfs'] as const;

/** A number with its bounds, both inclusive. */
function count(first: bigint, last: bigint, of: string) {
  const error = `expected a number of ${of} from ${first} to ${last}`;
  return z.bigint({ error }).min(first, error).max(last, error).transform(Number);
}

const pciAddress = z
  .string({ error: 'expected a PCI address such as "0000:00:02.0"' })
  .refine(
    (value) => parsePciAddress(value) !== undefined,
    'is no PCI address such as "0000:00:02.0": domain, bus, device and function in hexadecimal',
  );

const pciDevice = z
  .strictObject(
    {
      name: text,
      model: z.enum(deviceModels, { error: `expected one of ${deviceModels.join(', ')}` }),
      address: pciAddress,
      group: text.optional(),
      acs: flag.optional(),
      dmaBits: count(1n, 64n, 'bits').optional(),
      ats: flag.optional(),
      pageRequests: count(0n, 512n, 'page requests').optional(),
      pasidBits: count(0n, 20n, 'bits').optional(),
      vfs: count(0n, 7n, 'virtual functions').optional(),
      reserved: z.array(reserved, isList).optional(),
    },
    isMap([...PCI_KEYS, ...TEST_KEYS]),
  )
  .superRefine((one, context) => {
    if (one.model === 'iommu_test') return;
    for (const key of TEST_KEYS) {
      if (one[key] === undefined) continue;
      const message = `is for the model iommu_test, and this is ${one.model}`;
      context.addIssue({ code: 'custom', path: [key], message });
    }
  })
  .transform(given);

const rootPort = z
  .strictObject(
    { address: pciAddress, bus: count(1n, 255n, 'a bus'), acs: flag.optional() },
    isMap(['address', 'bus', 'acs']),
  )
  .transform(given);

const iommuKeys = isMap(['name', 'driver', 'devices']);
const pagingKeys = isMap(['name', 'driver', 'rootPorts', 'devices']);
const VTD_KEYS = ['name', 'driver', 'mode', 'privateData', 'cap', 'ecap', 'capabilities', 'haw'];
const vtdKeys = isMap([...VTD_KEYS, 'rootPorts', 'devices']);

const mockIommu = z.strictObject(
  { name: text, driver: z.literal('mock'), devices: z.array(device, isList).default([]) },
  iommuKeys,
);

const pagingIommu = z
  .strictObject(
    {
      name: text,
      driver: z.literal('paging'),
      rootPorts: z.array(rootPort, isList).optional(),
      devices: z.array(pciDevice, isList).default([]),
    },
    pagingKeys,
  )
  .transform(given);

const capabilityRegister = z
  .bigint({ error: 'expected a register of 64 bits such as 0xd2078c106f0466' })
  .refine((value) => value >= 0n && value < 2n ** 64n, 'has more than 64 bits');

/** Fields by name. */
const capabilities = z
  .record(z.string(), z.bigint({ error: 'expected a number' }), {
    error: 'expected a map of capabilities such as {NEST: 0}',
  })
  .superRefine((fields, context) => {
    for (const [name, value] of Object.entries(fields)) {
      const width = vtdCapabilityFields.get(name);
      const message =
        width === undefined
          ? `there is no such capability; known: ${[...vtdCapabilityFields.keys()].join(', ')}`
          : `has ${width} bit${width > 1 ? 's' : ''}, and ${value} does not fit`;
      if (width === undefined || value < 0n || value >= 2n ** BigInt(width))
        context.addIssue({ code: 'custom', path: [name], message });
    }
  })
  .transform((fields) =>
    Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, Number(value)])),
  );

const vtd = z
  .strictObject(
    {
      name: text,
      driver: z.literal('intel-vtd'),
      mode: z.enum(vtdModes, { error: `expected one of ${vtdModes.join(', ')}` }).optional(),
      privateData: flag.optional(),
      cap: capabilityRegister.optional(),
      ecap: capabilityRegister.optional(),
      capabilities: capabilities.optional(),
      haw: count(36n, 52n, 'bits').optional(),
      rootPorts: z.array(rootPort, isList).optional(),
      devices: z.array(pciDevice, isList).default([]),
    },
    vtdKeys,
  )
  .transform(given);

const iommu = z.discriminatedUnion('driver', [mockIommu, pagingIommu, vtd], {
  error: (issue) =>
    issue.code === 'invalid_union'
      ? 'expected mock (the test driver) or paging or intel-vtd (PCI devices that do DMA)'
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
    if (driver === 'mock') continue;
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
      vfPageRequests: z
        .enum(vfPageRequestKinds, { error: `expected one of ${vfPageRequestKinds.join(', ')}` })
        .optional(),
      pageResponseTimeoutMs: count(0n, 86_400_000n, 'ms').optional(),
    },
    isMap(['name', 'summary', 'iommus', 'vfPageRequests', 'pageResponseTimeoutMs']),
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
  })
  .transform(given);
