// SPDX-License-Identifier: Apache-2.0
import { afterAll, describe, expect, it } from 'vitest';
import { Access } from './access.ts';
import { LEGACY, SCALABLE, SHARING, type VtdDescription } from './capabilities.ts';
import { Fault, type FaultName } from './fault_reasons.ts';
import type { OtherMemory } from './physical_memory.ts';
import { FS_ALL, Rig, SID, SS_RW } from './test_rig.ts';

const ADDRESS = 0x1234_5000n;
const NOWHERE = 0x1000n;
/** A page that no DMA of the unit can write, with a leaf that is neither accessed nor dirty in every entry. */
const READ_ONLY = 0x3000n;
const readOnly: OtherMemory = {
  read: (frame, _, into) => {
    if (BigInt(frame) >> 1n !== READ_ONLY) return false;
    into.set([7, 0x50]);
    return true;
  },
  write: () => false,
};
const [FIRST, SECOND, NESTED, PASS] = [1, 2, 3, 4];
const { ATOMIC, WRITE, EXECUTE, PRIVILEGED, TRANSLATION_REQUEST } = Access;
const at = (page: number): bigint => BigInt(page) * 4096n;

const provoked = new Set<FaultName>();

/** One refusal: the rig before it is turned on, and the access. */
function refuses(
  name: FaultName,
  what: string,
  description: VtdDescription,
  isScalable: boolean,
  arrange: (rig: Rig) => { address?: bigint; access?: number; pasid?: number } | undefined | void,
): void {
  provoked.add(name);
  it(`0x${Fault[name].toString(16)}: ${what}`, () => {
    const rig = new Rig(description, isScalable, readOnly);
    const { address = ADDRESS, access = 0, pasid = -1 } = arrange(rig) ?? {};
    rig.on();
    expect(rig.dma(address, access, pasid)).toBe(-Fault[name]);
    expect(rig.faults()).toEqual([
      {
        reason: Fault[name],
        sid: SID,
        // Above the widest table, of 4 or 5 levels, a record has no bits.
        address: address & (isScalable ? 0x1ff_ffff_ffff_f000n : 0xffff_ffff_f000n),
        isRead: (access & WRITE) === 0 || (access & ATOMIC) !== 0,
        pasid: pasid < 0 ? undefined : pasid,
      },
    ]);
  });
}

type Arrange = Parameters<typeof refuses>[4];
const NARROW: VtdDescription = { ...LEGACY, haw: 46 };
const legacy = (name: FaultName, what: string, arrange: Arrange): void =>
  refuses(name, what, NARROW, false, arrange);
const scalable = (name: FaultName, what: string, arrange: Arrange): void =>
  refuses(name, what, { ...SCALABLE, haw: 46 }, true, arrange);

/** A second stage of 4 levels with one entry at ADDRESS. */
function second(rig: Rig, entry: bigint, level = 0): number {
  const top = rig.page();
  rig.map(top, 4, ADDRESS, entry, { level });
  return top;
}

describe('legacy mode refuses', () => {
  legacy('ROOT_NOT_PRESENT', 'a root entry that is not present', (rig) => rig.put(rig.root, 0, 0n));
  legacy('CONTEXT_NOT_PRESENT', 'a context entry that is not present', () => undefined);
  legacy('CONTEXT_INVALID', 'a width that the unit has not', (rig) =>
    rig.legacy(rig.page(), { aw: 3 }),
  );
  legacy('BEYOND_WIDTH', 'an address beyond the width', (rig) => {
    rig.legacy(rig.page());
    return { address: 1n << 48n };
  });
  legacy('NO_WRITE', 'a write to what can only be read', (rig) => {
    rig.legacy(second(rig, at(rig.page()) + 1n));
    return { access: WRITE };
  });
  legacy('NO_READ', 'a read of nothing', (rig) => rig.legacy(second(rig, 0n)));
  legacy('CONTEXT_INVALID', 'a top table where no memory is', (rig) => rig.legacy(Number(NOWHERE)));
  legacy('SS_ACCESS', 'another table where no memory is', (rig) => {
    const top = rig.page();
    rig.put(top, 0, NOWHERE * 4096n + SS_RW);
    rig.legacy(top);
  });
  legacy('ROOT_ACCESS', 'a root table where no memory is', (rig) => {
    (rig as { root: number }).root = Number(NOWHERE);
  });
  legacy('CONTEXT_ACCESS', 'a context table where no memory is', (rig) =>
    rig.put(rig.root, 0, NOWHERE * 4096n + 1n),
  );
  legacy('ROOT_RESERVED', 'reserved bits of a root entry', (rig) => rig.put(rig.root, 1, 1n));
  legacy('CONTEXT_RESERVED', 'reserved bits of a context entry', (rig) =>
    rig.legacy(rig.page(), { bits: 0x11n }),
  );
  legacy('SS_RESERVED', 'an address beyond the width of the hardware in an entry', (rig) =>
    rig.legacy(second(rig, (1n << 46n) + SS_RW)),
  );
  legacy('CONTEXT_BLOCKS', 'a request for a translation', (rig) => {
    rig.legacy(second(rig, at(rig.page()) + SS_RW));
    return { access: TRANSLATION_REQUEST };
  });
  legacy('INTERRUPT_ADDRESS', 'reading what only interrupts are written to', (rig) => {
    rig.legacy(0, { tt: 2 });
    return { address: 0xfee0_1000n };
  });
  legacy('INTERRUPT_ADDRESS', 'an operation that is no plain write there', (rig) => {
    rig.legacy(0, { tt: 2 });
    return { address: 0xfee0_1000n, access: WRITE + ATOMIC };
  });
  legacy('BEYOND_WIDTH', 'an address that is no physical one, passed through', (rig) => {
    rig.legacy(0, { tt: 2 });
    return { address: 1n << 46n };
  });
  legacy('INTERRUPT_ADDRESS', 'an entry that leads to the addresses of interrupts', (rig) =>
    rig.legacy(second(rig, 0xfee0_1000n + SS_RW)),
  );
});

describe('scalable mode refuses, before any page table,', () => {
  refuses('SM_ROOT_POINTER', 'a mode that the unit has not', LEGACY, true, () => undefined);
  refuses('SM_PASID_IN_LEGACY', 'a request with PASID in legacy mode', SCALABLE, false, (rig) => {
    rig.legacy(rig.page());
    return { pasid: 5 };
  });
  scalable('SM_ROOT_ACCESS', 'a root table where no memory is', (rig) => {
    (rig as { root: number }).root = Number(NOWHERE);
  });
  scalable('SM_ROOT_NOT_PRESENT', 'a root entry that is not present', (rig) =>
    rig.put(rig.root, 0, 0n),
  );
  scalable('SM_ROOT_RESERVED', 'reserved bits of a root entry', (rig) =>
    rig.put(rig.root, 0, at(rig.context) + 3n),
  );
  scalable('SM_CONTEXT_ACCESS', 'a context table where no memory is', (rig) =>
    rig.put(rig.root, 0, NOWHERE * 4096n + 1n),
  );
  const entry = (rig: Rig, bits: bigint): void =>
    rig.put(rig.context, SID * 4, at(rig.directory) + bits);
  scalable('SM_CONTEXT_NOT_PRESENT', 'a context entry that is not present', (rig) =>
    entry(rig, 0n),
  );
  scalable('SM_CONTEXT_RESERVED', 'reserved bits of a context entry', (rig) => entry(rig, 0x21n));
  const unlike = (ecap: VtdDescription['ecap']): VtdDescription => ({
    ...SCALABLE,
    haw: 46,
    ecap: { ...SCALABLE.ecap, ...ecap },
  });
  const lacking = (ecap: VtdDescription['ecap'], what: string, bits: bigint): void =>
    refuses('SM_CONTEXT_RESERVED', what, unlike(ecap), true, (rig) => entry(rig, bits));
  lacking({ PRS: 0 }, 'page requests, which the unit has not', 0x15n);
  lacking({ DT: 0 }, 'caches in devices, which the unit has not', 5n);
  lacking({ PASID: 0 }, 'PASIDs, which the unit has not', 9n);
  refuses(
    'SM_CONTEXT_INVALID',
    'page requests without caches in devices',
    unlike({ PRS: 1 }),
    true,
    (rig) => entry(rig, 0x11n),
  );
  scalable('SM_DTE_CLEAR', 'a request for a translation where those are not allowed', (rig) => {
    entry(rig, 1n);
    rig.pasid(0, PASS);
    return { access: TRANSLATION_REQUEST };
  });
  scalable('SM_PASID_DISABLED', 'a PASID where those are not allowed', (rig) => {
    entry(rig, 1n);
    return { pasid: 5 };
  });
  scalable('SM_PASID_TOO_LARGE', 'a PASID beyond the directory', () => ({ pasid: 128 * 64 }));
  scalable('SM_CONTEXT_INVALID', 'a PASID for plain requests beyond the directory', (rig) =>
    rig.put(rig.context, SID * 4 + 1, 128n * 64n),
  );
  scalable('SM_RID_PASID', 'the PASID that stands for plain requests', (rig) => {
    rig.pasid(9, PASS);
    rig.put(rig.context, SID * 4 + 1, 9n);
    return { pasid: 9 };
  });
  refuses('SM_PASID_BEYOND_PSS', 'a PASID of too many bits', unlike({ PSS: 5 }), true, () => ({
    pasid: 64,
  }));
  scalable('SM_DIRECTORY_ACCESS', 'a directory where no memory is', (rig) =>
    rig.put(rig.context, SID * 4, NOWHERE * 4096n + 1n),
  );
  scalable('SM_DIRECTORY_NOT_PRESENT', 'a directory entry that is not present', () => ({
    pasid: 64,
  }));
  scalable('SM_DIRECTORY_RESERVED', 'reserved bits of a directory entry', (rig) =>
    rig.put(rig.directory, 0, at(rig.pasids) + 5n),
  );
  scalable('SM_PASID_ACCESS', 'a PASID table where no memory is', (rig) =>
    rig.put(rig.directory, 0, NOWHERE * 4096n + 1n),
  );
  scalable('SM_PASID_NOT_PRESENT', 'a PASID entry that is not present', () => ({ pasid: 5 }));
  scalable('SM_PASID_INVALID', 'a kind of translation that there is not', (rig) => rig.pasid(0, 5));
  scalable('SM_ERE_CLEAR', 'execution where that is not allowed', (rig) => {
    rig.pasid(5, FIRST, { fs: rig.page() });
    return { pasid: 5, access: EXECUTE };
  });
  scalable('SM_SRE_CLEAR', 'a supervisor where none is allowed', (rig) => {
    rig.pasid(5, FIRST, { fs: rig.page() });
    return { pasid: 5, access: PRIVILEGED };
  });
  scalable('SM_SRE_CLEAR', 'a supervisor whose requests are passed through', (rig) => {
    rig.pasid(5, PASS);
    return { pasid: 5, access: PRIVILEGED };
  });
  scalable('SM_INTERRUPT_ADDRESS', 'an interrupt with a PASID, passed through', (rig) => {
    rig.pasid(5, PASS);
    return { pasid: 5, access: WRITE, address: 0xfee0_0000n };
  });
  const reserved: readonly (readonly [string, VtdDescription['ecap'], object])[] = [
    ['bits 10 and 11', {}, { bits: 0x400n }],
    ['an address of no second stage', {}, { bits: 1n << 46n }],
    ['bits above the domain', {}, { bits1: 1n << 16n }],
    ['bits 91 to 95', {}, { bits1: 1n << 27n }],
    ['memory types, which the unit has not', { MTS: 0 }, { bits1: 1n << 32n }],
    ['caching of none, which the unit has not', { MTS: 0 }, { bits1: 1n << 25n }],
    ['snooping walks, which the unit has not', { SMPWCS: 0 }, {}],
    ['forced snooping, which the unit has not', { SC: 0 }, { bits1: 1n << 24n }],
    ['a supervisor, which the unit has not', { SRS: 0 }, { bits2: 1n }],
    ['execution, which the unit has not', { ERS: 0 }, { bits2: 2n }],
    ['bits 136 to 139', {}, { bits2: 0x100n }],
    ['EA, which the unit has not', { EAFS: 0 }, { bits2: 0x80n }],
    ['an address of no first stage', {}, { bits2: 1n << 46n }],
    ['a first stage, which the unit has not', { FSTS: 0, NEST: 0 }, { fs: 1 }],
    ['a second stage, which the unit has not', { SSTS: 0, NEST: 0 }, { ss: 1 }],
    ['dirty bits, which the unit has not', { SSADS: 0 }, { bits: 0x200n }],
  ];
  for (const [what, ecap, more] of reserved) {
    refuses('SM_PASID_RESERVED', `in a PASID entry ${what}`, unlike(ecap), true, (rig) =>
      rig.pasid(0, PASS, more),
    );
  }
  scalable('SM_BEYOND_HAW', 'an address that is no physical one, passed through', (rig) => {
    rig.pasid(0, PASS);
    return { address: 1n << 46n };
  });
});

describe('a second stage of scalable mode refuses', () => {
  const entry = (rig: Rig, value: bigint, more = {}): void =>
    rig.pasid(0, SECOND, { ss: second(rig, value), ...more });
  scalable('SM_SS_ACCESS', 'a table where no memory is', (rig) => {
    const top = rig.page();
    rig.put(top, 0, NOWHERE * 4096n + SS_RW);
    rig.pasid(0, SECOND, { ss: top });
  });
  scalable('SM_SS_POINTER', 'a top table where no memory is', (rig) =>
    rig.pasid(0, SECOND, { ss: Number(NOWHERE) }),
  );
  scalable('SM_SS_NOT_PRESENT', 'what is not present', (rig) => entry(rig, 0n));
  scalable('SM_SS_RESERVED', 'reserved bits of an entry', (rig) => entry(rig, (1n << 46n) + SS_RW));
  scalable('SM_SS_UPDATE_NO_SNOOP', 'an accessed bit that it can not set', (rig) =>
    entry(rig, at(rig.page()) + SS_RW, { bits: 1n << 9n, bits1: 0n }),
  );
  scalable('SM_SS_UPDATE_FAILED', 'an accessed bit that can not be written', (rig) => {
    const top = rig.page();
    rig.map(top, 4, ADDRESS, READ_ONLY * 4096n + 0x103n, { level: 1, table: 0x103n });
    rig.pasid(0, SECOND, { ss: top, bits: 1n << 9n });
  });
  scalable('SM_SS_NOT_PRESENT', 'what no entry on the way allows', (rig) => {
    const top = rig.page();
    rig.map(top, 4, ADDRESS, at(rig.page()) + 1n, { table: 2n });
    rig.pasid(0, SECOND, { ss: top });
  });
  scalable(
    'SM_SS_RESERVED',
    'reserved bits below an entry that does not allow the access',
    (rig) => {
      const top = rig.page();
      rig.map(top, 4, ADDRESS, (1n << 46n) + SS_RW, { table: 1n });
      rig.pasid(0, SECOND, { ss: top });
      return { access: WRITE };
    },
  );
  scalable('SM_SS_RESERVED', 'bit 62 of an entry', (rig) => entry(rig, (1n << 62n) + SS_RW));
  scalable('SM_SS_BEYOND', 'an address beyond the width', (rig) => {
    entry(rig, 0n);
    return { address: 1n << 48n };
  });
  scalable('SM_NO_WRITE', 'a write to what can only be read', (rig) => {
    entry(rig, at(rig.page()) + 1n);
    return { access: WRITE };
  });
  scalable('SM_NO_READ', 'a read of what can only be written', (rig) =>
    entry(rig, at(rig.page()) + 2n),
  );
  scalable('SM_INTERRUPT_ADDRESS', 'an entry that leads to the addresses of interrupts', (rig) =>
    entry(rig, 0xfee0_1000n + SS_RW),
  );
});

describe('a first stage refuses', () => {
  const first = (rig: Rig, entry: bigint, more = {}): void => {
    const top = rig.page();
    rig.map(top, 4, ADDRESS, entry, { table: FS_ALL });
    rig.pasid(0, FIRST, { fs: top, ...more });
    rig.pasid(5, FIRST, { fs: top, ...more });
  };
  scalable('SM_FS_ACCESS', 'a table where no memory is', (rig) => {
    const top = rig.page();
    rig.put(top, 0, NOWHERE * 4096n + FS_ALL);
    rig.pasid(0, FIRST, { fs: top });
  });
  scalable('SM_FS_TOP_ACCESS', 'a top table where no memory is', (rig) =>
    rig.pasid(0, FIRST, { fs: Number(NOWHERE) }),
  );
  scalable('SM_FS_NOT_PRESENT', 'what is not present', (rig) => first(rig, 0n));
  scalable('SM_FS_RESERVED', 'reserved bits of an entry', (rig) =>
    first(rig, (1n << 46n) + FS_ALL),
  );
  scalable('SM_NOT_CANONICAL', 'an address whose sign does not go on', (rig) => {
    first(rig, 0n);
    return { address: 1n << 47n };
  });
  scalable('SM_NOT_USER', "a user's access to a supervisor's page", (rig) =>
    first(rig, at(rig.page()) + 0x23n),
  );
  scalable('SM_NO_EXECUTE', 'execution of what can not be executed', (rig) => {
    first(rig, at(rig.page()) + FS_ALL + (1n << 63n), { bits2: 2n });
    return { pasid: 5, access: EXECUTE };
  });
  scalable('SM_NO_WRITE', 'a write to what can only be read', (rig) => {
    first(rig, at(rig.page()) + 0x25n);
    return { access: WRITE };
  });
  scalable('SM_FS_UPDATE_FAILED', 'an accessed bit that can not be written', (rig) => {
    const top = rig.page();
    rig.map(top, 4, ADDRESS, READ_ONLY * 4096n + FS_ALL, { level: 1, table: FS_ALL });
    rig.pasid(0, FIRST, { fs: top });
  });
  scalable('SM_FS_NOT_PRESENT', "what is not present below a supervisor's entry", (rig) => {
    const top = rig.page();
    rig.map(top, 4, ADDRESS, 0n, { table: 0x23n });
    rig.pasid(0, FIRST, { fs: top });
  });
  scalable('SM_FS_UPDATE_NO_SNOOP', 'an accessed bit that it can not set', (rig) =>
    first(rig, at(rig.page()) + 7n, { bits1: 0n }),
  );
});

describe('a first stage over a second refuses', () => {
  /** The second stage maps 1 GiB at 4 GiB to itself, where all RAM of the test is, with `ssBits`; then single pages as told. */
  const nested = (rig: Rig, arrange: (top: number, ss: number) => void): void => {
    const [ss, top] = [rig.page(), rig.page()];
    rig.map(ss, 4, 1n << 32n, (1n << 32n) + SS_RW + 0x80n, { level: 2 });
    arrange(top, ss);
    rig.pasid(0, NESTED, { ss, fs: top });
  };
  /** The same with pages of 4 KiB, of which `page` has other bits. */
  const nestedBut = (
    rig: Rig,
    arrange: (top: number, deny: (page: number, bits: bigint) => void) => void,
  ): void => {
    const [ss, top] = [rig.page(), rig.page()];
    const base = rig.page() - (rig.page() % 512);
    for (let i = 0; i < 512; i++) rig.map(ss, 4, at(base + i), at(base + i) + SS_RW);
    arrange(top, (page, bits) => void rig.map(ss, 4, at(page), at(page) + bits));
    rig.pasid(0, NESTED, { ss, fs: top });
  };
  const guest44: VtdDescription = { ...SCALABLE, cap: { ...SCALABLE.cap, MGAW: 43 } };
  refuses('SM_FS_BEYOND_MGAW', 'a table beyond what a guest can address', guest44, true, (rig) =>
    nested(rig, (top) => rig.put(top, 0, (1n << 44n) + FS_ALL)),
  );
  refuses('SM_FS_BEYOND_MGAW', 'a page beyond what a guest can address', guest44, true, (rig) =>
    nested(rig, (top) => void rig.map(top, 4, ADDRESS, (1n << 44n) + FS_ALL, { table: FS_ALL })),
  );
  scalable('SM_FS_BEYOND_MGAW', 'a table beyond the second stage, of 3 levels', (rig) => {
    const [ss, top] = [rig.page(), rig.page()];
    rig.map(ss, 3, 1n << 32n, (1n << 32n) + SS_RW + 0x80n, { level: 2 });
    rig.put(top, 0, (1n << 39n) + FS_ALL);
    rig.pasid(0, NESTED, { ss, fs: top, aw: 1 });
  });
  scalable('SM_PASID_INVALID', 'a top table beyond the second stage, of 3 levels', (rig) =>
    rig.pasid(0, NESTED, { ss: rig.page(), fs: 2 ** 27, aw: 1 }),
  );
  scalable(
    'SM_FS_NO_WRITE',
    'tables that can not be written where A and D are kept of them',
    (rig) => {
      const [ss, top] = [rig.page(), rig.page()];
      const base = rig.page() - (rig.page() % 512);
      for (let i = 0; i < 512; i++) rig.map(ss, 4, at(base + i), at(base + i) + 1n);
      rig.put(top, 0, at(rig.page()) + FS_ALL);
      rig.pasid(0, NESTED, { ss, fs: top, bits: 1n << 9n });
    },
  );
  scalable('SM_FS_TOP_NO_READ', 'a top table that the guest can not read', (rig) =>
    nestedBut(rig, (top, deny) => deny(top, 2n)),
  );
  scalable('SM_FS_NO_READ', 'another table that the guest can not read', (rig) =>
    nestedBut(rig, (top, deny) => {
      const table = rig.page();
      rig.put(top, 0, at(table) + FS_ALL);
      deny(table, 2n);
    }),
  );
  scalable('SM_FS_NO_WRITE', 'an accessed bit in a table that the guest can not write', (rig) =>
    nestedBut(rig, (top, deny) => {
      rig.put(top, 0, at(rig.page()) + 7n);
      deny(top, 1n);
    }),
  );
  scalable('SM_SS_NOT_PRESENT', 'a page that the guest has not', (rig) =>
    nested(rig, (top) => void rig.map(top, 4, ADDRESS, 0x5000n + FS_ALL, { table: FS_ALL })),
  );
});

describe('A page request is refused', () => {
  const refusesPages = (name: FaultName, what: string, rig: Rig): void => {
    provoked.add(name);
    it(`0x${Fault[name].toString(16)}: ${what}`, () => {
      rig.on();
      rig.unit.pageRequests.receive(SID, {
        ...{ pasid: undefined, address: ADDRESS, group: 0 },
        ...{ read: true, write: false, last: true },
      });
      rig.sim.settle();
      expect(rig.faults().map(({ reason, sid }) => [reason, sid])).toEqual([[Fault[name], SID]]);
    });
  };
  refusesPages('SM_PAGES_IN_LEGACY', 'in legacy mode', new Rig(SHARING));
  refusesPages('SM_PRE_CLEAR', 'where those are not allowed', new Rig(SHARING, true));
});

afterAll(() => {
  const missing = (Object.keys(Fault) as FaultName[]).filter((name) => !provoked.has(name));
  expect(missing, 'reasons that no test provokes').toEqual([]);
});
