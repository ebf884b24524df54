// SPDX-License-Identifier: Apache-2.0
/** The example in three languages: one program, so one output. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { cannotRun, hasPython, launcher, outcome } from './support.ts';

const folder = fileURLToPath(new URL('../../examples/first_dma/', import.meta.url));
const temporary = mkdtempSync(join(tmpdir(), 'iommulator-first-dma-'));
afterAll(() => rmSync(temporary, { recursive: true }));

/** The output that the README shows. */
const shown = /```text\n([^]*?)```/.exec(readFileSync(join(folder, 'README.md'), 'utf8'))?.[1];
const run = (...command: string[]) => outcome(launcher, ['run', '--strace', ...command]);
const isLinux = process.platform === 'linux';

describe.skipIf(!isLinux)('examples/first_dma', () => {
  test.skipIf(cannotRun)(`in C prints what the README shows ${cannotRun}`, () => {
    const program = join(temporary, 'first_dma');
    const source = join(folder, 'first_dma.c');
    execFileSync('gcc', ['-O2', '-Wall', '-Wextra', '-Werror', '-o', program, source]);
    expect(run(program)).toMatchObject({ status: 0, stdout: shown });
  });

  test.skipIf(!hasPython)('in Python prints the same', () => {
    const program = join(folder, 'first_dma.py');
    expect(run('python3', program)).toMatchObject({ status: 0, stdout: shown });
  });

  test('in Node prints the same, and the trace shows registers, DMA and interrupts', () => {
    const { status, stdout, stderr } = run('node', join(folder, 'first_dma.mjs'));
    expect({ status, stdout }).toEqual({ status: 0, stdout: shown });
    const lines = stderr.split('\n');
    for (const pattern of [
      /^ioctl\(\d+, VFIO_DEVICE_BIND_IOMMUFD, \{argsz=16, flags=0, iommufd=\d+\} => \{out_devid=1\}\) = 0$/,
      /^pread\(\d+, "\\xed\\x00\\x00\\x01", 4, VFIO_PCI_BAR0_REGION\+0x0 \/\* identification: 0x10000ed \*\/\) = 4$/,
      /^pwrite\(\d+, "\\x06\\x00", 2, VFIO_PCI_CONFIG_REGION\+0x4 \/\* Command: 0x6 \*\/\) = 2$/,
      /^ {2}dma 0000:00:02\.0 read 0x100000\+64 -> frame 0x[0-9a-f]+: ok$/,
      /^ {2}dma 0000:00:02\.0 read 0x300000\+8: refused \(0x300000 is not mapped\)$/,
      /^ {2}dma 0000:00:02\.0 write 0x200000\+8: refused \(0x200000 is not writable\)$/,
      /^ {2}interrupt: eventfd \d+ is signalled$/,
      /^--- last close of \/dev\/vfio\/devices\/vfio0 ---$/,
    ]) {
      expect(lines.filter((line) => pattern.test(line)).length, String(pattern)).toBeGreaterThan(0);
    }
  });
});
