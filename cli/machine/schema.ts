// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import { reservedKinds } from '../../src/machine/description.ts';

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

const iommu = z.strictObject(
  {
    name: text,
    driver: z.literal('mock', { error: 'expected mock: the only driver there is so far' }),
    devices: z.array(device, isList).default([]),
  },
  isMap(['name', 'driver', 'devices']),
);

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
  });
