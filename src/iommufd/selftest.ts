// SPDX-License-Identifier: Apache-2.0
/**
 * IOMMU_TEST_CMD: the interface of the kernel's test driver (selftest.c), through which the kernel's own tests, and ours,
 * look behind the interface.
 */
import { type iommu_test_cmd, iommu_test_op, iommu_test_op_member } from '../abi/iommufd_test.ts';
import type { Cmd } from '../abi/struct.ts';
import { ErrnoError } from '../base/errno.ts';
import type { Call } from './call.ts';
import {
  accessPages,
  accessRw,
  createAccess,
  destroyAccessPages,
  replaceIoas,
} from './selftest_access.ts';
import { addReserved, checkMap, checkRefs, memoryLimit } from './selftest_check.ts';
import { checkDevCache, mockDomain, mockDomainReplace } from './selftest_device.ts';
import { dirty } from './selftest_dirty.ts';
import { triggerIopf } from './selftest_fault.ts';
import { checkIotlb } from './selftest_nested.ts';
import { pasidAttach, pasidCheck, pasidDetach, pasidReplace } from './selftest_pasid.ts';
import { dmabufGet, dmabufRevoke } from './selftest_dmabuf.ts';
import { triggerVevent } from './selftest_viommu.ts';

type TestCmd = Cmd<typeof iommu_test_cmd>;
type Members = TestCmd['u'];

/** One test command: the call, its structure, and the member of the union that the command uses. */
export interface TestCall<M extends keyof Members> {
  readonly call: Call<TestCmd>;
  readonly cmd: TestCmd;
  readonly arg: Members[M];
}

type OpName = keyof typeof iommu_test_op;

/** A command of the test driver. */
export interface TestOp {
  readonly name: OpName;
  readonly run: (call: Call<TestCmd>) => number | void;
  readonly note: string;
}

function done<M extends keyof Members>(
  name: OpName,
  member: M,
  body: (call: TestCall<M>) => number | void,
): TestOp {
  // All calls have their structure in the same place: the view of the member is made once.
  let known: { readonly cmd: TestCmd; readonly arg: Members[M] } | undefined;
  const run = (call: Call<TestCmd>): number | void => {
    const { cmd } = call;
    if (known?.cmd !== cmd) known = { cmd, arg: cmd.u[member] };
    return body({ call, cmd, arg: known.arg });
  };
  return { name, run, note: '' };
}

/** Every command by name; the numbers are iommufd_test.h's. */
export const testOps: readonly TestOp[] = [
  done('IOMMU_TEST_OP_ADD_RESERVED', 'add_reserved', addReserved),
  done('IOMMU_TEST_OP_MOCK_DOMAIN', 'mock_domain', mockDomain),
  done('IOMMU_TEST_OP_MD_CHECK_MAP', 'check_map', checkMap),
  done('IOMMU_TEST_OP_MD_CHECK_REFS', 'check_refs', checkRefs),
  done('IOMMU_TEST_OP_CREATE_ACCESS', 'create_access', createAccess),
  done('IOMMU_TEST_OP_DESTROY_ACCESS_PAGES', 'destroy_access_pages', destroyAccessPages),
  done('IOMMU_TEST_OP_ACCESS_PAGES', 'access_pages', accessPages),
  done('IOMMU_TEST_OP_ACCESS_RW', 'access_rw', accessRw),
  done('IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT', 'memory_limit', memoryLimit),
  done('IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE', 'mock_domain_replace', mockDomainReplace),
  done('IOMMU_TEST_OP_ACCESS_REPLACE_IOAS', 'access_replace_ioas', replaceIoas),
  done('IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS', 'mock_domain_flags', mockDomain),
  done('IOMMU_TEST_OP_DIRTY', 'dirty', dirty),
  done('IOMMU_TEST_OP_MD_CHECK_IOTLB', 'check_iotlb', checkIotlb),
  done('IOMMU_TEST_OP_TRIGGER_IOPF', 'trigger_iopf', triggerIopf),
  done('IOMMU_TEST_OP_DEV_CHECK_CACHE', 'check_dev_cache', checkDevCache),
  done('IOMMU_TEST_OP_TRIGGER_VEVENT', 'trigger_vevent', triggerVevent),
  done('IOMMU_TEST_OP_PASID_ATTACH', 'pasid_attach', pasidAttach),
  done('IOMMU_TEST_OP_PASID_REPLACE', 'pasid_replace', pasidReplace),
  done('IOMMU_TEST_OP_PASID_DETACH', 'pasid_detach', pasidDetach),
  done('IOMMU_TEST_OP_PASID_CHECK_HWPT', 'pasid_check', pasidCheck),
  done('IOMMU_TEST_OP_DMABUF_GET', 'dmabuf_get', dmabufGet),
  done('IOMMU_TEST_OP_DMABUF_REVOKE', 'dmabuf_revoke', dmabufRevoke),
];

const byNumber = new Map(testOps.map((op) => [iommu_test_op[op.name], op] as const));

/** IOMMU_TEST_CMD */
export function testIoctl(call: Call<TestCmd>): number | void {
  const op = byNumber.get(call.cmd.op as never);
  if (!op) throw new ErrnoError('EOPNOTSUPP', `the test driver has no command ${call.cmd.op}`);
  return op.run(call);
}

/** Which member of the union a command uses, for those who print it. */
export { iommu_test_op_member };
