// SPDX-License-Identifier: Apache-2.0
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { existsSync, readFileSync } from 'node:fs';
import { OUR_FAILURE } from './exit_status.ts';
import type { RunArguments } from './run_arguments.ts';

/** A command line understood, or answered already (help, version, a mistake). */
export type CommandLine =
  | { readonly kind: 'run'; readonly arguments: RunArguments }
  | { readonly kind: 'machine'; readonly name: string | undefined; readonly list: boolean }
  | { readonly kind: 'answered'; readonly exitStatus: number };

/** Where answers go; the default is the process's own streams. */
export interface Answers {
  out(text: string): void;
  error(text: string): void;
}

const streams: Answers = {
  out: (text) => void process.stdout.write(text),
  error: (text) => void process.stderr.write(text),
};

const overview = `
Examples:
  iommulator run -- ./prog                   serve /dev/iommu to a program
  iommulator run --strace -- ./prog          and print every call with its structure
  iommulator run --summary -- python3 p.py   end with counts, times and what was left open
  iommulator explain --machine vtd 0x100000 -- ./prog
                                             how an address of its device is translated
  iommulator machine --list                  machines to choose from, with run --machine
  iommulator help run                        options and exit status of run`;

const aboutRun = `
Options end at the first argument that is not one, so "iommulator run ./prog --strace"
gives --strace to ./prog.

Examples:
  iommulator run -- ./prog --flag            run ./prog; its own options follow it
  iommulator run --strace -- ./prog          calls on standard error, as strace prints them
  iommulator run --strace -o trace.txt -- ./prog
                                             calls in a file
  iommulator run --summary -- make check     every process that make starts is served
  iommulator run --strace --fail-nth 3 -- ./prog
                                             the third thing that can fail does

Exit status:
  that of PROGRAM; 128 + N when signal N killed it
  125  iommulator itself failed (wrong options included): a sentence says why
  126  PROGRAM was found but cannot be executed
  127  PROGRAM was not found`;

/** The version in package.json, which is one folder above the sources and two above what is built from them. */
function version(): string {
  const places = ['../package.json', '../../package.json'];
  const found = places.map((path) => new URL(path, import.meta.url)).find((url) => existsSync(url));
  if (!found)
    throw new Error('package.json is missing beside the program: install iommulator again');
  return (JSON.parse(readFileSync(found, 'utf8')) as { version: string }).version;
}

interface RunOptions {
  readonly strace?: true;
  readonly output?: string;
  readonly summary?: true;
  readonly fast?: true;
  readonly allowIoUring?: true;
  readonly asRoot?: true;
  readonly failNth?: number;
  readonly check?: true;
  readonly explain?: true;
  readonly machine?: string;
}

function countFromOne(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('Give a number from 1 on.');
}

function runCommand(found: (run: RunArguments) => void): Command {
  const command: Command = new Command('run')
    .summary('run a program that uses /dev/iommu')
    .description(
      'Runs PROGRAM, unmodified, and serves /dev/iommu to it and to every process it starts.\n' +
        'No hardware, root or kernel module is needed.',
    )
    .usage('[options] [--] PROGRAM [ARG...]')
    .argument('<program>', 'the program, looked up in PATH unless its name has a slash')
    .argument('[args...]', 'its arguments')
    .option(
      '--strace',
      'print every call on our descriptors, decoded, with the reason of each error',
    )
    .option('-o, --output <file>', 'write the trace and the summary to FILE, not to standard error')
    .option('--summary', 'end with a table of calls, errors and times, and what was left open')
    .option(
      '--fast',
      "do not follow the program's munmap, mremap and the like (see docs/limits.md)",
    )
    .option('--allow-io-uring', 'let the program use io_uring, whose operations are not served')
    .option('--machine <machine>', 'a preset (see "iommulator machine --list") or a YAML file')
    .option(
      '--as-root',
      'answer privileged requests as for root, though iommulator was not started by it',
    )
    .option(
      '--fail-nth <n>',
      'fail the n-th fault point: an allocation, a pin or a command, counted over the run',
      countFromOne,
    )
    .option(
      '--explain',
      'after each DMA that is refused, print its way through the tables, and why',
    )
    .option(
      '--check',
      'after each failure that was injected, see that nothing has changed; tell of each DMA that is served from what was unmapped or detached',
    )
    .passThroughOptions()
    .addHelpText('after', aboutRun);
  return command.action((program: string, args: string[], options: RunOptions) => {
    const { strace = false, output, summary = false, fast = false, allowIoUring = false } = options;
    const { asRoot = false, machine, failNth, check = false, explain = false } = options;
    if (output !== undefined && !strace && !summary && !explain && !check) {
      command.error(
        'error: -o needs something to write: add --strace, --summary, --explain or --check',
      );
    }
    found({
      command: [program, ...args],
      strace,
      output,
      summary,
      fast,
      allowIoUring,
      asRoot,
      failNth,
      check,
      explain,
      machine,
      explainAt: undefined,
    });
  });
}

const aboutExplain = `
After each call that changes how the address is translated, the walk through the tables is printed
to standard error: every entry with its fields, where it ends and why, and the map of the program
that put the last entry there. "iommulator run --explain" does so for each DMA that is refused.

Examples:
  iommulator explain 0x300000 -- ./prog      the first device of the default machine
  iommulator explain --machine vtd --device 0000:00:02.0 --pasid 5 0x7000 -- ./prog
                                             a request with a PASID, through the tables of VT-d

Exit status: as of run.`;

interface ExplainOptions {
  readonly machine?: string;
  readonly device?: string;
  readonly pasid?: number;
  readonly output?: string;
  readonly asRoot?: true;
}

function addressOf(text: string): bigint {
  const isNumber = /^(0x[0-9a-f]{1,16}|\d{1,20})$/i.test(text);
  if (isNumber && BigInt(text) < 2n ** 64n) return BigInt(text);
  throw new InvalidArgumentError('Give an address below 2^64, as 0x100000 or 1048576.');
}

function pasidOf(text: string): number {
  if (/^\d{1,7}$/.test(text) && Number(text) < 2 ** 20) return Number(text);
  throw new InvalidArgumentError('Give a number below 2^20; 0 is no PASID.');
}

function explainCommand(found: (run: RunArguments) => void): Command {
  const command: Command = new Command('explain')
    .summary("show how an address of a program's device is translated")
    .description(
      'Runs PROGRAM as "run" does, and follows how an I/O address of its device is translated.',
    )
    .usage('[options] ADDRESS [--] PROGRAM [ARG...]')
    .argument('<address>', 'what the device would ask for', addressOf)
    .argument('<program>', 'the program, looked up in PATH unless its name has a slash')
    .argument('[args...]', 'its arguments')
    .option('--machine <machine>', 'a preset (see "iommulator machine --list") or a YAML file')
    .option('--device <address>', 'the PCI function, as 0000:00:02.0; the first one unless given')
    .option('--pasid <n>', 'of requests with this PASID', pasidOf)
    .option('-o, --output <file>', 'write the explanation to FILE, not to standard error')
    .option(
      '--as-root',
      'answer privileged requests as for root, though iommulator was not started by it',
    )
    .passThroughOptions()
    .addHelpText('after', aboutExplain);
  return command.action(
    (address: bigint, program: string, args: string[], options: ExplainOptions) => {
      // Options have ended at the address: what ends them before a program is an argument here.
      const run = program === '--' ? args : [program, ...args];
      if (run.length === 0) command.error("error: missing required argument 'program'");
      const { machine, device, pasid = 0, output, asRoot = false } = options;
      found({
        command: run,
        ...{ strace: false, summary: false, fast: false, allowIoUring: false, check: false },
        ...{ explain: false, failNth: undefined, output, asRoot, machine },
        explainAt: { address, device, pasid },
      });
    },
  );
}

const aboutMachine = `
Examples:
  iommulator machine                         the machine in force where none is asked for
  iommulator machine --list                  the presets
  iommulator machine two-in-one-group >m.yaml
  iommulator run --machine m.yaml -- ./prog  a machine of your own, from a preset`;

function machineCommand(found: (name: string | undefined, list: boolean) => void): Command {
  return new Command('machine')
    .summary('show the machine that programs find')
    .description('Prints a machine as the YAML file that describes it; a file is checked first.')
    .argument('[machine]', 'a preset or a YAML file')
    .option('--list', 'list the presets')
    .addHelpText('after', aboutMachine)
    .action((name: string | undefined, options: { readonly list?: true }) => {
      found(name, options.list ?? false);
    });
}

function ignoreCommanderError(error: unknown): CommanderError {
  if (error instanceof CommanderError) return error;
  throw error;
}

/** Reads a command line (without the interpreter and the script). Never exits the process. */
export function parseCommandLine(argv: readonly string[], answers: Answers = streams): CommandLine {
  let understood: CommandLine | undefined;
  const program = new Command('iommulator')
    .description('The Linux IOMMU subsystem in user space.')
    .usage('COMMAND [options]')
    .enablePositionalOptions()
    .configureHelp({ subcommandTerm: (command) => command.name() })
    .option('-V, --version', 'print the version')
    .on('option:version', () => {
      answers.out(`${version()}\n`);
      throw new CommanderError(0, 'commander.version', 'version');
    })
    .addHelpText('after', overview)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => answers.out(text),
      writeErr: (text) => answers.error(text),
      outputError: (text, write) => write(text.replace(/^error: /, 'iommulator: ')),
    });
  program.addCommand(
    runCommand((found) => {
      understood = { kind: 'run', arguments: found };
    }).copyInheritedSettings(program),
  );
  program.addCommand(
    explainCommand((found) => {
      understood = { kind: 'run', arguments: found };
    }).copyInheritedSettings(program),
  );
  program.addCommand(
    machineCommand((name, list) => {
      understood = { kind: 'machine', name, list };
    }).copyInheritedSettings(program),
  );
  try {
    program.parse([...argv], { from: 'user' });
  } catch (error) {
    const { exitCode, code } = ignoreCommanderError(error);
    const mistaken = exitCode !== 0;
    if (mistaken && code !== 'commander.help') {
      const command = program.commands.find((one) => one.name() === argv[0])?.name();
      const topic = command === undefined ? '--help' : `help ${command}`;
      answers.error(`Try "iommulator ${topic}".\n`);
    }
    return { kind: 'answered', exitStatus: mistaken ? OUR_FAILURE : 0 };
  }
  return understood ?? { kind: 'answered', exitStatus: OUR_FAILURE };
}
