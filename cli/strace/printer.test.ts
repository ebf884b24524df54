// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from 'vitest';
import { plainStyle } from '../style.ts';
import { Printer } from './printer.ts';

describe('the trace', () => {
  let lines: string[];
  let printer: Printer;
  beforeEach(() => {
    lines = [];
    printer = new Printer({ line: (text) => void lines.push(text) }, plainStyle);
  });

  it('shows opens with the descriptor or the error', () => {
    printer.opened(10, '/dev/iommu', { value: 1023, why: '' });
    printer.opened(10, '/dev/iommu', { value: -24, why: 'no number is free' });
    expect(lines).toEqual([
      'open("/dev/iommu") = 1023',
      'open("/dev/iommu") = -1 EMFILE (no number is free)',
    ]);
  });

  it('names the process from the moment that a second one calls', () => {
    const result = { value: 0, why: '', call: undefined };
    const call = { fd: 3, cmd: 0x3bf0, arg: 0n, result };
    printer.called(10, call);
    printer.called(10, call);
    printer.called(11, call);
    printer.called(10, call);
    const text = 'ioctl(3, _IOC(_IOC_NONE, 0x3b, 0xf0, 0), NULL) = 0';
    expect(lines).toEqual([text, text, `[pid 11] ${text}`, `[pid 10] ${text}`]);
  });

  it('shows other calls with their errors by name', () => {
    printer.other(10, 'read(1023</dev/iommu>) = -22');
    printer.other(10, 'dup(1023</dev/iommu>) = 1022');
    expect(lines).toEqual(['read(1023</dev/iommu>) = -1 EINVAL', 'dup(1023</dev/iommu>) = 1022']);
  });

  it('says what a file still held when its last descriptor was closed', () => {
    printer.closed('/dev/iommu', '');
    printer.closed('/dev/iommu', 'IOAS 1');
    expect(lines).toEqual([
      '--- last close of /dev/iommu ---',
      '--- last close of /dev/iommu, which still held IOAS 1 ---',
    ]);
  });
});
