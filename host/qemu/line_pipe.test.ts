// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { LinePipe } from './line_pipe.ts';
import { Qmp } from './qmp.ts';
import { Qtest } from './qtest.ts';

const undo: (() => void)[] = [];
afterEach(() => {
  for (const step of undo.splice(0).toReversed()) step();
});

/** A shell script at the other end, which reads lines from its standard input. */
function peer(script: string): LinePipe {
  const folder = mkdtempSync(join(tmpdir(), 'iommulator-pipe-'));
  undo.push(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'p');
  let pid = 0;
  const hasEnded = (): boolean => {
    try {
      return / Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
    } catch {
      return true;
    }
  };
  const pipe = new LinePipe(path, { hasEnded, said: () => 'its last words' });
  undo.push(() => pipe.close());
  const started = spawn('sh', ['-c', `exec < ${path}.in > ${path}.out; ${script}`]);
  pid = started.pid ?? 0;
  undo.push(() => started.kill('SIGKILL'));
  return pipe;
}

const ECHO = 'while read -r line; do echo "OK $line"; done';

describe('two pipes with lines', () => {
  it('bring an answer to what is sent', () => {
    const pipe = peer(ECHO);
    pipe.send('one');
    expect(pipe.receive()).toBe('OK one');
  });

  it('bring answers in order to what is sent together', () => {
    const qtest = new Qtest(peer(ECHO));
    expect(qtest.commands(['a', 'b 1', 'c'])).toEqual(['a', 'b 1', 'c']);
  });

  it('say what was sent last where the other process ends', () => {
    const pipe = peer('read -r line');
    pipe.send('writel 0x10 0x1');
    expect(() => pipe.receive()).toThrow(
      "QEMU ended; last it was sent 'writel 0x10 0x1', and it said:\nits last words",
    );
  });
});

describe('qtest', () => {
  it('passes over interrupt lines', () => {
    const qtest = new Qtest(peer('read -r line; echo IRQ raise 0; echo OK 0x2a'));
    expect(qtest.read32(0xfed9_0000)).toBe(42);
  });

  it('says which command is refused', () => {
    const qtest = new Qtest(peer('read -r line; echo FAIL Unknown command'));
    expect(() => qtest.command('nonsense')).toThrow(
      "QEMU answers 'nonsense' with 'FAIL Unknown command'",
    );
  });

  it.each([
    [Qtest.write32(0xfed9_0018, -1), 'writel 0xfed90018 0xffffffff'],
    [Qtest.write64(0x10, -1n), 'writeq 0x10 0xffffffffffffffff'],
    [Qtest.out32(0xcf8, 0x8000_0010), 'outl 0xcf8 0x80000010'],
    [Qtest.step(1.5), 'clock_step 2'],
  ])('writes numbers that QEMU takes: %s', (line, expected) => {
    expect(line).toBe(expected);
  });
});

const GREETING = '{"QMP": {"version": {"qemu": {"micro": 3, "minor": 1, "major": 11}}}}';

describe('the monitor', () => {
  it('tells the version, and waits for an event', () => {
    const script = `echo '${GREETING}'; read -r a; echo '{"return": {}}'; read -r b; echo '{"return": {}}'; echo '{"event": "RESUME"}'; echo '{"event": "RESET"}'`;
    const qmp = new Qmp(peer(script));
    expect(qmp.version).toEqual({ major: 11, minor: 1, micro: 3 });
    qmp.executeUntil('system_reset', 'RESET');
  });

  it('says what QEMU says of a command that it refuses', () => {
    const script = `echo '${GREETING}'; read -r a; echo '{"return": {}}'; read -r b; echo '{"error": {"desc": "not now"}}'`;
    const qmp = new Qmp(peer(script));
    expect(() => qmp.execute('stop')).toThrow("QEMU refuses 'stop': not now");
  });
});
