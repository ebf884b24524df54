// SPDX-License-Identifier: Apache-2.0
import { iommu_test_cmd, iommu_test_op_member } from '../../src/abi/iommufd_test.ts';
import type { Field, StructType } from '../../src/abi/struct.ts';

/** Whether the fields that the program passed are shown, or those that the kernel wrote. */
export type Direction = 'passed' | 'written';

const testCommandOp = iommu_test_cmd.offsetof('op');

/**
 * The member of `union` to show, inside a structure `root` whose bytes are `before`: in the test command the one that
 * its operation uses, elsewhere the one for the direction. Undefined where the operation is not known.
 */
export function memberInUse(
  root: StructType<unknown>,
  union: StructType<unknown>,
  before: DataView,
  direction: Direction,
): Field | undefined {
  if (root.cName === iommu_test_cmd.cName) {
    if (before.byteLength < testCommandOp + 4) return undefined;
    const name = iommu_test_op_member[before.getUint32(testCommandOp, true)];
    return union.fields.find((field) => field.name === name);
  }
  const isOutput = (field: Field): boolean => field.name.startsWith('out_');
  return union.fields.find((field) => isOutput(field) === (direction === 'written'));
}
