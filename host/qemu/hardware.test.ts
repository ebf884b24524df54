// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Ram } from '../../src/memory/ram.ts';
import { QemuHardware } from './hardware.ts';
import type { QemuProcess } from './process.ts';
import { RamFile } from './ram_file.ts';
import { hasRefused } from './refusals.ts';

const message = (vector: number): string =>
  `apic_deliver_irq dest 0 dest_mode 0 delivery_mode 0 vector ${vector} trigger_mode 0`;

/** A QEMU that records what it is asked, and says what it is told to. */
function rig() {
  const lines: string[] = [];
  const asked: string[] = [];
  let now = 0;
  const qtest = {
    read32: (at: number) => (asked.push(`read ${at}`), 7),
    write32: (at: number, value: number) => void asked.push(`write ${at} ${value}`),
    step: (ns: number) => (now += ns),
  };
  const process = { qtest, takeTrace: () => lines.splice(0) } as unknown as QemuProcess;
  const reset = (): void => void asked.push('reset');
  const hardware = new QemuHardware(process, { base: 0x1000, ram: new Ram(), reset });
  return { hardware, lines, asked };
}

describe('hardware that is a QEMU', () => {
  it('has its registers from its base on', () => {
    const { hardware, asked } = rig();
    expect(hardware.mmio.read32(0x10)).toBe(7);
    hardware.mmio.write32(0x18, 3);
    expect(asked).toEqual(['read 4112', 'write 4120 3']);
  });

  it('calls the handler of an interrupt after the access that brought it', () => {
    const { hardware, lines } = rig();
    let calls = 0;
    const { data } = hardware.irq.request(() => calls++);
    lines.push(message(data), 'something else', message(data + 1));
    hardware.mmio.write32(0, 0);
    expect(calls).toBe(1);
    expect(hardware.takeLines()).toEqual(['something else']);
  });

  it('does not enter a handler again for what its own accesses bring', () => {
    const { hardware, lines } = rig();
    const seen: string[] = [];
    const { data } = hardware.irq.request(() => {
      seen.push('in');
      if (seen.length < 3) lines.push(message(data));
      hardware.mmio.write32(0, 0);
      seen.push('out');
    });
    lines.push(message(data));
    hardware.mmio.write32(0, 0);
    expect(seen).toEqual(['in', 'out', 'in', 'out']);
  });

  it('calls nobody for a vector that was given back', () => {
    const { hardware, lines } = rig();
    let calls = 0;
    const given = hardware.irq.request(() => calls++);
    hardware.irq.release(given);
    lines.push(message(given.data));
    hardware.mmio.write32(0, 0);
    expect(calls).toBe(0);
  });

  it('lets time pass while it polls, as far as the limit', () => {
    const { hardware } = rig();
    expect(hardware.clock.poll(() => hardware.clock.now >= 5000, 1e6)).toBe(true);
    const { now } = hardware.clock;
    expect(hardware.clock.poll(() => false, 1e6)).toBe(false);
    expect(hardware.clock.now).toBe(now + 1e6);
  });
});

describe("QEMU's log", () => {
  it('tells of accesses that were refused', () => {
    const refused = "Invalid write at addr 0x67C, size 4, region '(null)', reason: rejected";
    expect(hasRefused(['apic_deliver_irq', refused])).toBe(true);
    expect(hasRefused(['apic_deliver_irq'])).toBe(false);
  });
});

describe('memory that is a file', () => {
  it('has the same bytes here and there', () => {
    const folder = mkdtempSync(join(tmpdir(), 'iommulator-ram-'));
    try {
      const file = new RamFile(join(folder, 'ram'), 1 << 20);
      const lanes = new Uint32Array(file.view(4096, 4096));
      lanes[1] = 0x1122_3344;
      expect(readFileSync(file.path).readUInt32LE(4100)).toBe(0x1122_3344);
      expect(() => file.view(1 << 20, 4)).toThrow(RangeError);
      file.unmap();
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
