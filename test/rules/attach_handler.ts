// SPDX-License-Identifier: Apache-2.0
import { expect } from 'vitest';
import { allocUserDomain } from '../../src/iommu/alloc.ts';
import { attach } from '../../src/iommu/attach.ts';
import { NO_PASID } from '../../src/iommu/device.ts';
import type { Domain } from '../../src/iommu/domain.ts';
import type { FaultHandler } from '../../src/iommu/fault.ts';
import { AttachHandle } from '../../src/iommu/handle.ts';
import type { RuleDevice } from './rule_device.ts';

/** Attaches a domain whose faults go to a handler of the test, as a user inside the kernel does it. */
export function attachHandler({ core }: RuleDevice, faultHandler: FaultHandler): Domain {
  const domain = allocUserDomain(core, { flags: 0, faultHandler });
  if (typeof domain === 'number') throw new Error(`refused: ${domain}`);
  expect(attach(core, NO_PASID, domain, new AttachHandle())).toBe(0);
  return domain;
}
