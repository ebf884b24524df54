// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import type { FaultRecord } from '../../iommu/fault_record.ts';
import { FaultReason } from '../../iommu/fault_record.ts';
import { registerFaultHandler, UNRECOVERABLE_FAULTS } from '../../iommu/fault_registration.ts';
import { FakeRig } from './fake_rig.ts';

const SID = 0x0318;

describe('what the hardware refused', () => {
  it('comes to the handler that is registered for it on the device (C12, C14)', () => {
    const rig = new FakeRig();
    const device = rig.add(SID);
    const told: FaultRecord[] = [];
    const registration = registerFaultHandler(device, UNRECOVERABLE_FAULTS, {
      report: (records) => {
        told.push(...records);
        return 0;
      },
    });
    expect(typeof registration).toBe('object');
    rig.vtd.fault(0, 0x1234_5678_9000n, SID, 0x4000_0000 | 0x71);
    rig.vtd.fault(1, 0x2000n, 0x8000_0000 + SID, (5 << 8) | 0x85);
    rig.vtd.fault(2, 0x3000n, 0x777, 0x85);
    rig.vtd.fault(3, 0x4000n, 0x4000_0000 + SID, 0x4000_0000 | 0xee);
    expect(told).toEqual([
      {
        type: 'unrecoverable',
        fault: { reason: FaultReason.ENTRY_FETCH, perm: 1, addr: 0x1234_5678_9000n },
      },
      {
        type: 'unrecoverable',
        fault: { reason: FaultReason.PERMISSION, perm: 2, addr: 0x2000n, pasid: 5 },
      },
      {
        type: 'unrecoverable',
        fault: { reason: FaultReason.UNKNOWN, perm: 5, addr: 0x4000n },
      },
    ]);
  });
});
