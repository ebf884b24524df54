// SPDX-License-Identifier: Apache-2.0
import { OUR_FAILURE, parseCommandLine } from './command_line.ts';

/** A failure with a sentence for the user; anything else that is thrown is a bug and shows its stack. */
const isForUser = (error: unknown): error is Error =>
  error instanceof Error && error.name === 'HostError';

const parsed = parseCommandLine(process.argv.slice(2));
if (parsed.kind === 'answered') process.exitCode = parsed.exitStatus;
else {
  try {
    const { runCommand } = await import('./run.ts');
    process.exitCode = await runCommand(parsed.arguments);
  } catch (error) {
    process.exitCode = OUR_FAILURE;
    if (isForUser(error)) console.error(`iommulator: ${error.message}`);
    else {
      console.error('iommulator: a bug of ours stopped it; please report this:');
      console.error(error);
    }
  }
}
