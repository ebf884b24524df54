// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { type Place, TreeBuilder, walkTree } from './file_tree.ts';

const builder = new TreeBuilder();
builder.directory('/sys/devices/pci/0.0');
builder.file('/sys/devices/pci/0.0/vendor', '0x1234\n');
builder.link('/sys/devices/pci/0.0/bus', '../../../bus/pci');
builder.link('/sys/devices/pci/0.0/loop', 'loop');
builder.link('/sys/bus/pci/devices/0.0', '../../../devices/pci/0.0');
builder.link('/sys/absolute', '/sys/devices/pci/0.0/vendor');
builder.device('/dev/vfio/vfio0');
const { tree } = builder;

const text = (place: Place): string => {
  if (place.at === 'nowhere') return `errno ${place.errno}`;
  return `${place.at} ${place.path}${place.isPlain ? ' (plain)' : ''}`;
};
const walk = (path: string, follow = true, base = '/') => text(walkTree(tree, base, path, follow));

describe('a path through the tree', () => {
  it.each([
    ['/sys/devices/pci/0.0/vendor', 'tree /sys/devices/pci/0.0/vendor'],
    ['//sys//devices/./pci/0.0/vendor', 'tree /sys/devices/pci/0.0/vendor'],
    ['/sys/bus/pci/devices/0.0/vendor', 'tree /sys/devices/pci/0.0/vendor'],
    ['/sys/bus/pci/devices/0.0', 'tree /sys/devices/pci/0.0'],
    ['/sys/bus/pci/devices/0.0/../0.0/vendor', 'tree /sys/devices/pci/0.0/vendor'],
    ['/sys/absolute', 'tree /sys/devices/pci/0.0/vendor'],
    ['/dev/vfio/vfio0', 'tree /dev/vfio/vfio0'],
    ['/sys/bus/pci', 'tree /sys/bus/pci (plain)'],
    ['/sys/../sys/bus', 'tree /sys/bus (plain)'],
    ['/../../sys/bus', 'tree /sys/bus (plain)'],
  ])('%s is %s', (path, expected) => expect(walk(path)).toBe(expected));

  it.each([
    ['/sys/bus/pci/devices/1.0/vendor', 'host /sys/bus/pci/devices/1.0/vendor (plain)'],
    ['/usr/bin', 'host /usr/bin (plain)'],
    // Linux would not find these by itself: part of the way is ours.
    ['/sys/bus/pci/devices/0.0/bus/devices/1.0', 'host /sys/bus/pci/devices/1.0'],
    ['/sys/devices/pci/0.0/../1.0', 'host /sys/devices/pci/1.0'],
    ['/', 'host / (plain)'],
  ])('%s leads out of it: %s', (path, expected) => expect(walk(path)).toBe(expected));

  it.each([
    ['/sys/devices/pci/0.0/nothing', 2],
    ['/sys/devices/pci/0.0/vendor/x', 20],
    ['/sys/devices/pci/0.0/vendor/', 20],
    ['/sys/devices/pci/0.0/vendor/.', 20],
    ['/sys/devices/pci/0.0/loop', 40],
  ])('%s is errno %d', (path, errno) => expect(walk(path)).toBe(`errno ${errno}`));

  it('ends at a link that is not to be followed, unless something comes behind it', () => {
    expect(walk('/sys/bus/pci/devices/0.0', false)).toBe('tree /sys/bus/pci/devices/0.0');
    expect(walk('/sys/bus/pci/devices/0.0/', false)).toBe('tree /sys/devices/pci/0.0');
    expect(walk('/sys/bus/pci/devices/0.0/.', false)).toBe('tree /sys/devices/pci/0.0');
  });

  it('starts at the directory that it is relative to', () => {
    expect(walk('0.0/vendor', true, '/sys/devices/pci')).toBe('tree /sys/devices/pci/0.0/vendor');
    expect(walk('../bus/pci', true, '/sys/devices')).toBe('tree /sys/bus/pci (plain)');
  });
});

describe('a tree', () => {
  it('shares the directories that only lead to what was put there, and owns the others', () => {
    expect(tree.get('/sys/bus/pci/devices')).toEqual({ kind: 'directory', isShared: true });
    expect(tree.get('/sys/devices/pci/0.0')).toEqual({ kind: 'directory', isShared: false });
  });
});
