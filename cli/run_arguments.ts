// SPDX-License-Identifier: Apache-2.0

/** What `iommulator run` was asked to do. */
export interface RunArguments {
  /** The program and its arguments; at least one element. */
  readonly command: readonly string[];
  /** Print every call on our descriptors. */
  readonly strace: boolean;
  /** Where the trace and the summary go; standard error where undefined. */
  readonly output: string | undefined;
  /** End with a table of calls, times and what was left open. */
  readonly summary: boolean;
  /** Do not follow changes of the program's memory. */
  readonly fast: boolean;
  /** Let io_uring_setup through, whose operations cannot be intercepted. */
  readonly allowIoUring: boolean;
  /** Capabilities that we lack ourselves count as held by the program. */
  readonly asRoot: boolean;
  /** Which fault point of the run fails; undefined: none. */
  readonly failNth: number | undefined;
  /** After each refused DMA, print its way through the tables. */
  readonly explain: boolean;
  /** After each injected failure, see that nothing has changed; compare each DMA with the tables. */
  readonly check: boolean;
  /** A preset or a machine file; the default machine where undefined. */
  readonly machine: string | undefined;
  /** An address whose translation is followed. */
  readonly explainAt: ExplainedAddress | undefined;
}

/** What `iommulator explain` was asked about. */
export interface ExplainedAddress {
  readonly address: bigint;
  /** `0000:00:02.0`; undefined: the machine's first function. */
  readonly device: string | undefined;
  /** 0: requests without one. */
  readonly pasid: number;
}

const switches = {
  '--strace': 'strace',
  '--summary': 'summary',
  '--fast': 'fast',
  '--allow-io-uring': 'allowIoUring',
  '--as-root': 'asRoot',
  '--check': 'check',
  '--explain': 'explain',
} as const;

const isSwitch = (text: string): text is keyof typeof switches => Object.hasOwn(switches, text);

/**
 * Reads the plain spellings of `run [options] [--] PROGRAM [ARG...]` without loading commander, which takes 8 ms of
 * the start of every run. Undefined for all else, mistakes and help included: command_line.ts answers those, and a
 * test holds the two against each other.
 */
export function plainRunArguments(argv: readonly string[]): RunArguments | undefined {
  const [command, ...rest] = argv;
  if (command !== 'run') return undefined;
  const options = {
    strace: false,
    summary: false,
    fast: false,
    allowIoUring: false,
    asRoot: false,
    check: false,
    explain: false,
  };
  let output: string | undefined;
  let at = 0;
  for (; rest[at]?.startsWith('-') === true && rest[at] !== '--'; at++) {
    const option = rest[at] ?? '';
    if (isSwitch(option)) options[switches[option]] = true;
    else if (option === '-o') output = rest[++at];
    else return undefined;
    if (option === '-o' && output?.startsWith('-') !== false) return undefined;
  }
  if (rest[at] === '--') at++;
  const program = rest.slice(at);
  const nothingToWrite =
    output !== undefined &&
    !options.strace &&
    !options.summary &&
    !options.explain &&
    !options.check;
  if (program.length === 0 || nothingToWrite) return undefined;
  const unasked = { machine: undefined, failNth: undefined, explainAt: undefined };
  return { command: program, output, ...unasked, ...options };
}
