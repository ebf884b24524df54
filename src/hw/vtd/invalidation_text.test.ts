// SPDX-License-Identifier: Apache-2.0
import { expect, it } from 'vitest';
import { invalidationWords } from './invalidation_text.ts';

const SID = 0x0318;

it.each([
  ['all contexts', [0x11], { cache: 'context cache', text: 'context cache, all' }],
  [
    'a context of a device',
    [0x0005_0031, SID],
    {
      ...{ cache: 'context cache', text: 'context cache, domain 5, device 0x318' },
      requester: SID,
    },
  ],
  ['a domain', [0x0005_0022], { cache: 'IOTLB', text: 'IOTLB, domain 5' }],
  [
    'pages of a domain',
    [0x0005_0032, 0, 0x4041, 0],
    {
      ...{ cache: 'IOTLB', text: 'IOTLB, 0x4000-0x5fff (leaves only) of domain 5' },
      range: { first: 0x4000n, last: 0x5fffn },
    },
  ],
  ['a PASID', [0x0005_0026, 7], { cache: 'IOTLB', text: 'IOTLB, PASID 7 of domain 5', pasid: 7 }],
  ['all PASID caches', [0x37], { cache: 'PASID cache', text: 'PASID cache, all' }],
  [
    'one PASID of the PASID cache',
    [0x0005_0017, 7],
    { cache: 'PASID cache', text: 'PASID cache, PASID 7 of domain 5', pasid: 7 },
  ],
  [
    'what a device keeps without PASID',
    [3, SID, 0x4000, 0],
    {
      ...{ cache: 'device TLB', text: 'device TLB, 0x4000-0x4fff of device 0x318' },
      ...{ range: { first: 0x4000n, last: 0x4fffn }, pasid: 0, requester: SID },
    },
  ],
  [
    'what a device keeps of a PASID',
    [0x0318_0008, 7, 0x4000, 0],
    {
      ...{ cache: 'device TLB', text: 'device TLB, 0x4000-0x4fff of device 0x318, PASID 7' },
      ...{ range: { first: 0x4000n, last: 0x4fffn }, pasid: 7, requester: SID },
    },
  ],
  [
    'what a device keeps of all PASIDs',
    [0x0318_0008, 7, 0x4001, 0],
    {
      ...{ cache: 'device TLB', text: 'device TLB, 0x4000-0x4fff of device 0x318, all PASIDs' },
      ...{ range: { first: 0x4000n, last: 0x4fffn }, requester: SID },
    },
  ],
])('an invalidation of %s, in words', (_what, words, expected) => {
  expect(invalidationWords(Uint32Array.from(words))).toEqual(expected);
});
