// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { parseCommandLine } from './command_line.ts';

function parse(...argv: string[]) {
  let out = '';
  let error = '';
  const result = parseCommandLine(argv, {
    out: (text) => void (out += text),
    error: (text) => void (error += text),
  });
  return { result, out, error };
}

const defaults = {
  strace: false,
  output: undefined,
  summary: false,
  fast: false,
  allowIoUring: false,
  asRoot: false,
  failNth: undefined,
  check: false,
  explain: false,
  machine: undefined,
};

describe('iommulator run', () => {
  it('takes the program and its arguments after --', () => {
    expect(parse('run', '--', './prog', '-x', '--strace').result).toEqual({
      kind: 'run',
      arguments: { ...defaults, command: ['./prog', '-x', '--strace'] },
    });
  });

  it('ends its own options at the program, with or without --', () => {
    expect(parse('run', '--strace', './prog', '--summary', '-o', 'x').result).toEqual({
      kind: 'run',
      arguments: { ...defaults, strace: true, command: ['./prog', '--summary', '-o', 'x'] },
    });
  });

  it("leaves the program's own -- and --help to it", () => {
    expect(parse('run', 'ls', '--', '--help').result).toMatchObject({
      arguments: { command: ['ls', '--', '--help'] },
    });
    expect(parse('run', '--', 'ls', '--help').result).toMatchObject({
      arguments: { command: ['ls', '--help'] },
    });
  });

  it('understands every option', () => {
    const options = [
      '--strace',
      '-o',
      'f',
      '--summary',
      '--fast',
      '--allow-io-uring',
      '--as-root',
      '--fail-nth',
      '7',
      '--check',
      '--explain',
      '--machine',
      'm',
    ];
    expect(parse('run', ...options, 'p').result).toEqual({
      kind: 'run',
      arguments: {
        command: ['p'],
        strace: true,
        output: 'f',
        summary: true,
        fast: true,
        allowIoUring: true,
        asRoot: true,
        failNth: 7,
        check: true,
        explain: true,
        machine: 'm',
      },
    });
  });

  it.each(['0', '-1', 'x', '1.5', '1e9'])('refuses to fail fault point %s', (nth) => {
    const { result, error } = parse('run', '--fail-nth', nth, 'p');
    expect(result).toEqual({ kind: 'answered', exitStatus: 125 });
    expect(error).toContain('Give a number from 1 on.');
  });

  it.each([
    ['no program', ['run'], /missing required argument 'program'/],
    ['an unknown option', ['run', '--stace', 'p'], /unknown option '--stace'[^]*--strace/],
    ['-o without a file', ['run', '--strace', '-o'], /-o, --output <file>.* argument missing/],
    ['-o with nothing to write', ['run', '-o', 'f', 'p'], /-o needs something to write/],
  ])('refuses %s with 125 and says where help is', (_, argv, message) => {
    const { result, error, out } = parse(...argv);
    expect(result).toEqual({ kind: 'answered', exitStatus: 125 });
    expect(error).toMatch(/^iommulator: /);
    expect(error).toMatch(message);
    expect(error).toMatch(/Try "iommulator help run"/);
    expect(out).toBe('');
  });
});

describe('iommulator', () => {
  it('prints its version alone on a line', () => {
    for (const option of ['--version', '-V']) {
      const { result, out, error } = parse(option);
      expect(result).toEqual({ kind: 'answered', exitStatus: 0 });
      expect(out).toMatch(/^\d+\.\d+\.\d+\S*\n$/);
      expect(error).toBe('');
    }
  });

  it.each([[['--help']], [['help']], [['run', '--help']], [['help', 'run']]])(
    'prints help with examples for %j on standard output',
    (argv) => {
      const { result, out, error } = parse(...argv);
      expect(result).toEqual({ kind: 'answered', exitStatus: 0 });
      expect(out).toMatch(/Examples:\n +iommulator run /);
      expect(error).toBe('');
    },
  );

  it('documents the exit status in help run', () => {
    expect(parse('help', 'run').out).toMatch(/125[^]*126[^]*127/);
  });

  it('refuses an unknown command with 125', () => {
    const { result, error } = parse('rnu', 'p');
    expect(result).toEqual({ kind: 'answered', exitStatus: 125 });
    expect(error).toMatch(/unknown command 'rnu'[^]*run/);
  });

  it('shows the overview and fails where no command is given', () => {
    const { result, error } = parse();
    expect(result).toEqual({ kind: 'answered', exitStatus: 125 });
    expect(error).toMatch(/Usage: iommulator/);
  });
});
