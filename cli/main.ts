// SPDX-License-Identifier: Apache-2.0
import { OUR_FAILURE } from './exit_status.ts';
import { plainRunArguments } from './run_arguments.ts';

/** A failure with a sentence for the user; anything else that is thrown is a bug and shows its stack. */
const isForUser = (error: unknown): error is Error =>
  error instanceof Error && error.name === 'HostError';

async function main(argv: readonly string[]): Promise<number> {
  let run = plainRunArguments(argv);
  if (!run) {
    const { parseCommandLine } = await import('./command_line.ts');
    const parsed = parseCommandLine(argv);
    if (parsed.kind === 'answered') return parsed.exitStatus;
    if (parsed.kind === 'machine') {
      const { describeMachine, presetList } = await import('./machine/machine_command.ts');
      process.stdout.write(parsed.list ? presetList() : describeMachine(parsed.name));
      return 0;
    }
    run = parsed.arguments;
  }
  const { runCommand } = await import('./run.ts');
  return await runCommand(run);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.exitCode = OUR_FAILURE;
  if (isForUser(error)) console.error(`iommulator: ${error.message}`);
  else {
    console.error('iommulator: a bug of ours stopped it; please report this:');
    console.error(error);
  }
}
