// SPDX-License-Identifier: Apache-2.0
/** A cut of the recorded scripts, played by the program that recorded them, in real processes under `run`. `test:kernel` plays all. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { writeHeaders } from './abi_headers.ts';
import { cannotRun, launcher, outcome } from './support.ts';

/** Together they have every operation of the format at least once, but for those that need huge pages. */
const CUT = `
  q01_respond_fault q02_sizes q03_hwpt_order q04_map_order q05_map_domain q06_dirty q07_pasid q08_fault q09_viommu q10_access
  q11_vfio q12_ranges q13_dmabuf_proc q14_ids q15_dirty2 q16_account q17_umem
  s0000 s0012 s0072 s0092 s0134 s0290 s0330 s0560
`
  .trim()
  .split(/\s+/);

const golden = fileURLToPath(new URL('../golden/', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'iommulator-golden-'));
afterAll(() => rmSync(folder, { recursive: true }));

const linesOf = (path: string): string[] =>
  readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('SETUP'));

describe.skipIf(cannotRun)(`recorded scripts under run ${cannotRun}`, () => {
  test('get the answers of Linux from real processes', () => {
    writeHeaders(folder);
    const program = join(folder, 'exec');
    const source = join(golden, 'player/exec.c');
    execFileSync('gcc', ['-O1', '-w', '-I', folder, '-o', program, source]);
    const script = (name: string) => join(golden, `scripts/${name}.txt`);
    // Another user id is for root to take.
    const isRoot = process.getuid?.() === 0;
    const names = CUT.filter(
      (name) => isRoot || !/^setuid/m.test(readFileSync(script(name), 'utf8')),
    );
    const loop = 'ulimit -l unlimited; for s; do "$0" "$S/$s.txt" >"$O/$s.res"; done';
    const command = ['env', `S=${join(golden, 'scripts')}`, `O=${folder}`, 'TMPDIR=/dev/shm'];
    const played = outcome(launcher, [
      'run',
      '--as-root',
      ...command,
      'bash',
      '-c',
      loop,
      program,
      ...CUT,
    ]);
    expect(played).toMatchObject({ status: 0, stderr: '' });
    for (const name of names) {
      const found = linesOf(join(folder, `${name}.res`));
      expect(found, name).toEqual(linesOf(join(golden, `results/${name}.res`)));
    }
  });
});
