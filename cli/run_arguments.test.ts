// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseCommandLine } from './command_line.ts';
import { plainRunArguments } from './run_arguments.ts';

const silent = { out: () => undefined, error: () => undefined };

describe('plain run arguments', () => {
  it('are read without commander', () => {
    expect(plainRunArguments(['run', '--strace', '-o', 'f', '--', 'p', '--x'])).toEqual({
      command: ['p', '--x'],
      strace: true,
      output: 'f',
      summary: false,
      fast: false,
      allowIoUring: false,
      asRoot: false,
      failNth: undefined,
      check: false,
      explain: false,
      machine: undefined,
    });
  });

  it.each([
    [['help', 'run']],
    [['run']],
    [['run', '--']],
    [['run', '--help']],
    [['run', '--stace', 'p']],
    [['run', '-o', 'f', 'p']],
    [['run', '--strace', '-o']],
    [['run', '--strace', '-ofile', 'p']],
  ])('are not %j', (argv) => expect(plainRunArguments(argv)).toBeUndefined());

  it('mean what commander reads', () => {
    const words = ['--strace', '--summary', '--fast', '--allow-io-uring', '-o', 'f', '--'];
    const word = fc.constantFrom(
      ...words,
      '--help',
      '-x',
      '--output',
      '--output=f',
      '-of',
      'p',
      '',
    );
    fc.assert(
      fc.property(fc.array(word, { maxLength: 7 }), (rest) => {
        const plain = plainRunArguments(['run', ...rest]);
        fc.pre(plain !== undefined);
        expect(parseCommandLine(['run', ...rest], silent)).toEqual({
          kind: 'run',
          arguments: plain,
        });
      }),
      { seed: 7, numRuns: 2000 },
    );
  });
});
