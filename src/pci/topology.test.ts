// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { ISOLATING } from './acs.ts';
import { parsePciAddress } from './address.ts';
import { type GroupedFunction, PciTopology } from './topology.ts';

function at(text: string, more: Partial<GroupedFunction> = {}): GroupedFunction {
  const address = parsePciAddress(text);
  if (!address) throw new Error(text);
  return { address, acs: undefined, ...more };
}
const port = (text: string, secondaryBus: number, acs?: number) =>
  at(text, { bridge: 'root port', secondaryBus, acs });

/** The groups as lists of addresses. */
function groups(...functions: GroupedFunction[]): string[] {
  const topology = new PciTopology(functions);
  return functions.map((one) => topology.groupOf(one).slice(5));
}

describe('groups from the topology', () => {
  it('devices of the root bus are apart', () => {
    expect(groups(at('00:02.0'), at('00:03.0'))).toEqual(['00:02.0', '00:03.0']);
  });

  it('functions of one device without ACS share one', () => {
    expect(groups(at('00:02.0'), at('00:02.1'))).toEqual(['00:02.0', '00:02.0']);
  });

  it('functions of one device with ACS are apart, and only with all of it', () => {
    const acs = ISOLATING;
    expect(groups(at('00:02.0', { acs }), at('00:02.1', { acs }))).toEqual(['00:02.0', '00:02.1']);
    expect(groups(at('00:02.0', { acs: acs & ~0x10 }), at('00:02.1'))).toEqual([
      '00:02.0',
      '00:02.0',
    ]);
  });

  it('a function with ACS is apart from neighbours that share', () => {
    expect(groups(at('00:02.0'), at('00:02.1', { acs: ISOLATING }), at('00:02.2'))).toEqual([
      '00:02.0',
      '00:02.1',
      '00:02.0',
    ]);
  });

  it('virtual functions are apart from their physical one and from each other', () => {
    const isVirtual = true;
    expect(
      groups(at('00:02.0'), at('00:02.1', { isVirtual }), at('00:02.2', { isVirtual })),
    ).toEqual(['00:02.0', '00:02.1', '00:02.2']);
  });

  it('what is behind a port without ACS shares its group', () => {
    expect(groups(port('00:1c.0', 1), at('01:00.0'), at('01:01.0'))).toEqual([
      '00:1c.0',
      '00:1c.0',
      '00:1c.0',
    ]);
  });

  it('what is behind a port with ACS is apart from it, and from what is behind others', () => {
    expect(
      groups(
        port('00:1c.0', 1, ISOLATING),
        at('01:00.0'),
        port('00:1d.0', 2, ISOLATING),
        at('02:00.0'),
      ),
    ).toEqual(['00:1c.0', '01:00.0', '00:1d.0', '02:00.0']);
  });

  it('a switch isolates only as far as every port up to the root does', () => {
    const tree = (up: number | undefined, down: number | undefined) => [
      port('00:1c.0', 1, up),
      at('01:00.0', { bridge: 'upstream port', secondaryBus: 2 }),
      at('02:00.0', { bridge: 'downstream port', secondaryBus: 3, acs: down }),
      at('02:01.0', { bridge: 'downstream port', secondaryBus: 4, acs: down }),
      at('03:00.0'),
      at('04:00.0'),
    ];
    expect(groups(...tree(ISOLATING, ISOLATING)).slice(4)).toEqual(['03:00.0', '04:00.0']);
    // As Linux: with its port, though ports without ACS can pass requests to each other.
    expect(groups(...tree(ISOLATING, undefined)).slice(4)).toEqual(['02:00.0', '02:01.0']);
    expect(groups(...tree(undefined, ISOLATING)).slice(4)).toEqual(['00:1c.0', '00:1c.0']);
  });

  it('what is behind a conventional bridge cannot be told from it', () => {
    expect(
      groups(
        port('00:1c.0', 1, ISOLATING),
        at('01:00.0', { bridge: 'conventional bridge', secondaryBus: 2, acs: ISOLATING }),
        at('02:00.0', { acs: ISOLATING }),
        at('02:01.0', { acs: ISOLATING }),
      ).slice(1),
    ).toEqual(['01:00.0', '01:00.0', '01:00.0']);
  });

  it('refuses two bridges above one bus, and one below itself', () => {
    expect(() => new PciTopology([port('00:1c.0', 1), port('00:1d.0', 1)])).toThrow('two bridges');
    expect(() => new PciTopology([port('02:1c.0', 1)])).toThrow('is not above its own');
  });
});
