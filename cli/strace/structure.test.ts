// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { iommu_hw_info } from '../../src/abi/iommufd_hw_info.ts';
import * as abi from '../../src/abi/iommufd_test.ts';
import * as c from '../../src/abi/struct.ts';
import { structureText } from './structure.ts';

const map = c.struct('iommu_ioas_map', {
  size: c.u32,
  flags: c.flagsOf(c.u32, { FIXED: 1, WRITEABLE: 2, READABLE: 4 }),
  ioas_id: c.id,
  __reserved: c.reserved(c.u32),
  user_va: c.pointer,
  length: c.hex(c.u64),
  iova: c.hex(c.u64),
});
const alloc = c.struct('iommu_ioas_alloc', { size: c.u32, flags: c.u32, out_ioas_id: c.id });

type Any = c.StructType<unknown>;

function bytesOf<S>(type: c.StructType<S>, values: Partial<c.Values<S>>, length = type.size) {
  const bytes = new Uint8Array(Math.max(length, type.size));
  type.write(new DataView(bytes.buffer), 0, values as c.Values<S>);
  return bytes.subarray(0, length);
}

function show<S>(
  type: c.StructType<S>,
  before: Partial<c.Values<S>>,
  after: Partial<c.Values<S>> = {},
  succeeded = true,
) {
  return structureText({
    type: type,
    before: bytesOf(type, before),
    after: bytesOf(type, { ...before, ...after }),
    succeeded,
  });
}

describe('fields that the program passed', () => {
  it('are shown in order with their names, without reserved zeros', () => {
    const { passed, written } = show(map, {
      size: 40,
      flags: 5,
      ioas_id: 1,
      user_va: 0x7f0000000000n,
      length: 0x1000n,
      iova: 0x1800n,
    });
    expect(passed).toBe(
      '{size=40, flags=FIXED|READABLE, ioas_id=1, user_va=0x7f0000000000, length=0x1000, iova=0x1800}',
    );
    expect(written).toBe('');
  });

  it('include a reserved field that is not zero', () => {
    expect(show(map, { size: 40, __reserved: 7 }).passed).toContain('__reserved=0x7');
  });

  it('stop where the size that the program gives ends', () => {
    expect(show(map, { size: 12, flags: 2, ioas_id: 9 }).passed).toBe(
      '{size=12, flags=WRITEABLE, ioas_id=9}',
    );
    expect(show(map, { size: 0 }).passed).toBe('{size=0}');
    expect(show(map, { size: 14, ioas_id: 9 }).passed).toBe('{size=14, flags=0, ioas_id=9}');
  });

  it('stop where the recorded bytes end', () => {
    const before = bytesOf(map, { size: 40, flags: 2 }, 8);
    const text = structureText({
      type: map,
      before,
      after: before,
      succeeded: false,
    });
    expect(text).toEqual({ passed: '{size=40, flags=WRITEABLE}', written: '' });
  });

  it('end with the first byte beyond the structure that is not zero', () => {
    const before = new Uint8Array(20);
    before[0] = 20;
    before[17] = 0xab;
    const text = structureText({
      type: alloc,
      before,
      after: before,
      succeeded: false,
    });
    expect(text.passed).toBe('{size=20, flags=0, /* byte 17 is 0xab, beyond iommu_ioas_alloc */}');
  });
});

describe('fields that the kernel wrote', () => {
  it('are those that changed', () => {
    expect(show(map, { size: 40 }, { iova: 0x1000n }).written).toBe('{iova=0x1000}');
  });

  it('include an output field of a success even where it held the same value before', () => {
    expect(show(alloc, { size: 12, out_ioas_id: 1 })).toEqual({
      passed: '{size=12, flags=0}',
      written: '{out_ioas_id=1}',
    });
  });

  it('are none where the call failed and changed nothing', () => {
    expect(show(alloc, { size: 12, out_ioas_id: 1 }, {}, false).written).toBe('');
  });

  it('are shown of a failure that reports something', () => {
    const ranges = c.struct('iommu_ioas_iova_ranges', { size: c.u32, num_iovas: c.u32 });
    expect(show(ranges, { size: 8 }, { num_iovas: 3 }, false).written).toBe('{num_iovas=3}');
  });
});

describe('arrays behind pointers', () => {
  const range = c.struct('range', { start: c.hex(c.u64), last: c.hex(c.u64) });
  const elements = new Uint8Array(BigUint64Array.of(0n, 0xfffn, 0x2000n, 0x2fffn).buffer);

  function showArray(by: 'program' | 'kernel', count: number, succeeded: boolean) {
    const type = c.struct('ranges', {
      size: c.u32,
      count: c.u32,
      array: c.pointerTo(range, 'count', by),
    });
    const before = bytesOf(type, { size: 16, count, array: 0x7000n });
    const arrays = new Map([['array', elements]]);
    return structureText({ type, before, after: before, succeeded, arrays });
  }

  it('that the program filled are shown in their place', () => {
    expect(showArray('program', 2, false)).toEqual({
      passed: '{size=16, count=2, array=[{start=0, last=0xfff}, {start=0x2000, last=0x2fff}]}',
      written: '',
    });
  });

  it('that the kernel filled are shown as written, of a success', () => {
    expect(showArray('kernel', 2, true)).toEqual({
      passed: '{size=16, count=2, array=0x7000}',
      written: '{array=[{start=0, last=0xfff}, {start=0x2000, last=0x2fff}]}',
    });
    expect(showArray('kernel', 2, false).written).toBe('');
  });

  it('that are longer than what was recorded end in dots', () => {
    expect(showArray('program', 3, true).passed).toContain('last=0x2fff}, ...]');
  });
});

describe('unions', () => {
  const test = abi.iommu_test_cmd;
  const member = test.offsetof('u');

  function run(op: number, before: number[], after: number[]) {
    const start = bytesOf(test, { size: test.size, op, id: 4 });
    const end = start.slice();
    before.forEach((byte, i) => (start[member + i] = byte));
    after.forEach((byte, i) => (end[member + i] = byte));
    const type = test as unknown as Any;
    const text = structureText({ type, before: start, after: end, succeeded: true });
    return { ...text, passed: text.passed.replace(`size=${test.size}, `, '') };
  }

  it('of the test command show the member that its operation uses', () => {
    expect(run(abi.IOMMU_TEST_OP_ADD_RESERVED, [0, 0x10], [0, 0x10])).toEqual({
      passed: '{op=IOMMU_TEST_OP_ADD_RESERVED, id=4, add_reserved={start=0x1000, length=0}}',
      written: '',
    });
  });

  it('of the test command show what was written through that member', () => {
    expect(run(abi.IOMMU_TEST_OP_MOCK_DOMAIN, [], [2, 0, 0, 0, 3])).toEqual({
      passed: '{op=IOMMU_TEST_OP_MOCK_DOMAIN, id=4}',
      written: '{mock_domain={out_stdev_id=2, out_hwpt_id=3, out_idev_id=0}}',
    });
  });

  it('of an unknown operation show nothing', () => {
    expect(run(99, [1], [1]).passed).toBe('{op=0x63 /* IOMMU_TEST_OP_??? */, id=4}');
  });

  it('of a value that is asked for and answered show each on its side', () => {
    const { passed, written } = show(iommu_hw_info, { size: iommu_hw_info.size, dev_id: 3 });
    expect(passed).toMatch(/in_data_type=IOMMU_HW_INFO_TYPE_NONE/);
    expect(passed).not.toMatch(/out_/);
    expect(written).toMatch(/^{out_data_type=IOMMU_HW_INFO_TYPE_NONE, out_max_pasid_log2=0/);
  });
});
