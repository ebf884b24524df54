// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';

// The command as users have it: bin/iommulator, which runs what `npm test` has built.
const top = fileURLToPath(new URL('..', import.meta.url));
const firstMap = join(top, 'examples/first_map/first_map.mjs');

function iommulator(...args: string[]) {
  const options = { encoding: 'utf8', timeout: 60_000, killSignal: 'SIGKILL' } as const;
  const result = spawnSync(join(top, 'bin/iommulator'), args, options);
  return { status: result.status, out: result.stdout, err: result.stderr };
}

vi.setConfig({ testTimeout: 60_000 });

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'iommulator-'))));
afterAll(() => rmSync(folder, { recursive: true }));

/** A Node program that opens /dev/iommu, makes an IOAS and then does what `then` says. */
function program(then: string): string {
  const path = join(folder, 'program.mjs');
  const source = `
    import { openSync } from 'node:fs';
    import koffi from ${JSON.stringify(join(top, 'node_modules/koffi/index.js'))};
    const ioctl = koffi.load(null).func('int ioctl(int fd, unsigned long request, ...)');
    const fd = openSync('/dev/iommu', 'r+');
    const alloc = Buffer.from(Uint32Array.of(12, 0, 0).buffer);
    ioctl(fd, 0x3b81, 'void *', alloc);
    ${then}`;
  writeFileSync(path, source);
  return path;
}

describe('the exit status of run', () => {
  it.each([
    [0, ['true']],
    [7, ['sh', '-c', 'exit 7']],
    [128 + 15, ['sh', '-c', 'kill -TERM $$']],
    [128 + 9, ['sh', '-c', 'kill -KILL $$']],
  ])('is %d, the program’s, of %j', (status, command) => {
    expect(iommulator('run', '--', ...command)).toEqual({ status, out: '', err: '' });
  });

  it.each([
    [127, 'no-such-program', /^iommulator: no-such-program: command not found\n$/],
    [127, '/no/such/program', /^iommulator: \/no\/such\/program: /],
    [126, '/etc/passwd', /^iommulator: \/etc\/passwd: permission denied\n$/],
    [126, '/etc', /^iommulator: \/etc: is a directory\n$/],
  ])('is %d where %s cannot be run, with one sentence', (status, command, message) => {
    const result = iommulator('run', command);
    expect(result).toMatchObject({ status, out: '' });
    expect(result.err).toMatch(message);
  });

  it('is 125 where the output file cannot be written', () => {
    const result = iommulator('run', '--strace', '-o', '/no/such/folder/x', 'true');
    expect(result.status).toBe(125);
    expect(result.err).toMatch(/^iommulator: cannot write to the file of -o: ENOENT.*\n$/);
  });
});

describe('run --strace', () => {
  it('prints every call of the first example, and leaves its output alone', () => {
    const plain = iommulator('run', 'node', firstMap);
    const trace = join(folder, 'trace');
    const traced = iommulator('run', '--strace', '-o', trace, 'node', firstMap);
    const address = /0x[0-9a-f]+/g;
    expect(traced.out.replace(address, 'X')).toBe(plain.out.replace(address, 'X'));
    expect(traced).toMatchObject({ status: 0, err: '' });
    const lines = readFileSync(trace, 'utf8').split('\n');
    expect(lines.pop()).toBe('');
    expect(lines.filter((line) => line.startsWith('ioctl(')).length).toBe(18);
    expect(lines[0]).toMatch(/^open\("\/dev\/iommu"\) = \d+$/);
    expect(lines[1]).toMatch(
      /^ioctl\(\d+, IOMMU_IOAS_ALLOC, {size=12, flags=0} => {out_ioas_id=1}\) = 0$/,
    );
    expect(lines.join('\n')).toMatch(
      /iova=0x1800}\) = -1 EINVAL \(iova 0x1800 is not aligned to 0x1000\)/,
    );
    expect(lines.slice(-2)).toEqual(['--- last close of /dev/iommu ---', '+++ exited with 0 +++']);
  });

  it('loses nothing when the program is killed, and says what it held', () => {
    const killed = program(`process.kill(process.pid, 'SIGKILL');`);
    const { status, err } = iommulator('run', '--strace', 'node', killed);
    expect(status).toBe(128 + 9);
    expect(err.split('\n').slice(1)).toEqual([
      expect.stringContaining('IOMMU_IOAS_ALLOC'),
      '--- last close of /dev/iommu, which still held IOAS 1 ---',
      '+++ exited with 137 +++',
      '',
    ]);
  });

  it('has no colours where it is not read at a terminal', () => {
    expect(iommulator('run', '--strace', 'node', firstMap).err).not.toContain('\u001b');
  });

  it('keeps the program running when the trace cannot be written', () => {
    const result = iommulator('run', '--strace', '-o', '/dev/full', 'node', firstMap);
    expect(result.status).toBe(0);
    expect(result.out).toContain('bytes unmapped from IOAS');
    expect(result.err).toBe('iommulator: /dev/full is incomplete: ENOSPC\n');
  });
});

describe('run --summary', () => {
  it('ends with a table, and with nothing left open where the program cleaned up', () => {
    const { status, err } = iommulator('run', '--summary', 'node', firstMap);
    expect(status).toBe(0);
    expect(err).toMatch(/ 8 +6 IOMMU_IOAS_MAP\n/);
    expect(err).toMatch(/ 18 +8 total\nleft open: nothing\n$/);
  });

  it('names a file that the program left to its exit, and the objects in it', () => {
    const { err } = iommulator('run', '--summary', 'node', program(''));
    expect(err).toMatch(/left open:\n {2}\/dev\/iommu of process \d+, not closed, with IOAS 1\n$/);
  });
});
