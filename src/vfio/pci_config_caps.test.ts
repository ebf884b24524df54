// SPDX-License-Identifier: Apache-2.0
import { expect, it } from 'vitest';
import { ConfigSpace } from '../pci/config_space.ts';
import { showCapabilities } from './pci_config_caps.ts';

/** A config space with these capabilities (offset, id) chained in order, and extended ones from 0x100 on. */
function chain(standard: readonly [number, number][], extended: readonly [number, number][] = []) {
  const config = new ConfigSpace();
  config.set(6, 2, standard.length ? 0x10 : 0);
  standard.forEach(([at, id], i) => {
    config.set(i === 0 ? 0x34 : (standard[i - 1]?.[0] ?? 0) + 1, 1, at);
    config.set(at, 1, id);
  });
  extended.forEach(([at, id], i) => {
    config.set(at, 4, (id | 0x1_0000 | ((extended[i + 1]?.[0] ?? 0) << 20)) >>> 0);
  });
  const view = new DataView(new ArrayBuffer(4096));
  const shown = showCapabilities(config, view);
  const seen: [number, number][] = [];
  for (let at = view.getUint8(0x34); at !== 0; at = view.getUint8(at + 1))
    seen.push([at, view.getUint8(at)]);
  const seenExtended: [number, number][] = [];
  let at = 0x100;
  do {
    const header = view.getUint32(at, true);
    seenExtended.push([at, header & 0xffff]);
    at = header >>> 20;
  } while (at !== 0);
  return { config, view, shown, seen, seenExtended };
}

const MSIX = 0x11;
const EXPRESS = 0x10;
const HIDDEN = 0x0a; // a debug port

it('capabilities whose length is known are seen', () => {
  const all: [number, number][] = [
    [0x40, 0x01],
    [0x50, 0x05],
    [0x70, MSIX],
  ];
  expect(chain(all).seen).toEqual(all);
  expect(chain(all).shown.msiAt).toBe(0x50);
});

it('others are passed over: first, in the middle and last', () => {
  const standard: [number, number][] = [
    [0x40, HIDDEN],
    [0x50, MSIX],
    [0x60, HIDDEN],
    [0x70, 0x01],
    [0x80, HIDDEN],
  ];
  expect(chain(standard).seen).toEqual([
    [0x50, MSIX],
    [0x70, 0x01],
  ]);
});

it('where all are hidden the status register says that there are none', () => {
  const { view, seen } = chain([[0x40, HIDDEN]]);
  expect([seen, view.getUint16(6, true) & 0x10]).toEqual([[], 0]);
});

it('a chain that loops ends', () => {
  const config = new ConfigSpace();
  config.set(6, 2, 0x10);
  config.set(0x34, 1, 0x40);
  config.set(0x40, 2, 0x4000 | MSIX);
  const { parts } = showCapabilities(config, new DataView(new ArrayBuffer(4096)));
  expect(parts.length).toBeLessThan(64);
});

it('a capability that states more than there is room for gets what there is', () => {
  const config = new ConfigSpace();
  config.set(6, 2, 0x10);
  config.set(0x34, 1, 0xf0);
  config.set(0xf0, 4, 0xff_00_09); // vendor-specific, 255 bytes
  const { parts } = showCapabilities(config, new DataView(new ArrayBuffer(256)));
  expect(parts.at(-1)).toEqual({ start: 0xf0, end: 0x100, id: 9 });
});

it('power management events are the host’s', () => {
  const config = new ConfigSpace();
  config.set(6, 2, 0x10);
  config.set(0x34, 1, 0x40);
  config.set(0x40, 4, 0xffff_0001);
  config.set(0x44, 4, 0xffff);
  const view = new DataView(new ArrayBuffer(256));
  showCapabilities(config, view);
  expect([view.getUint16(0x42, true), view.getUint16(0x44, true)]).toEqual([0x07ff, 0x7eff]);
});

it('the PASID capability is hidden, ATS and PRI are seen', () => {
  const extended: [number, number][] = [
    [0x100, 0x0f],
    [0x110, 0x1b],
    [0x120, 0x13],
  ];
  expect(chain([[0x40, EXPRESS]], extended).seenExtended).toEqual([
    [0x100, 0x0f],
    [0x120, 0x13],
  ]);
});

it('a hidden first extended capability leaves a header without id, which carries the chain', () => {
  const extended: [number, number][] = [
    [0x100, 0x1b],
    [0x110, 0x0f],
  ];
  expect(chain([[0x40, EXPRESS]], extended).seenExtended).toEqual([
    [0x100, 0],
    [0x110, 0x0f],
  ]);
  expect(chain([[0x40, EXPRESS]], [[0x100, 0x1b]]).view.getUint32(0x100, true)).toBe(0);
});

it('without PCI Express there are no extended capabilities', () => {
  expect(chain([[0x40, MSIX]], [[0x100, 0x0f]]).seenExtended).toEqual([[0x100, 0]]);
});
