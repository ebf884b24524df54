// SPDX-License-Identifier: Apache-2.0
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { parseScript } from './script.ts';
import { type Played, playScript } from './player.ts';

const folder = new URL('../', import.meta.url);
const LIST = new URL('equal.txt', folder);

/** A script and what the real kernel answered. */
export interface Recording {
  readonly name: string;
  readonly script: string;
  readonly lines: readonly string[];
}

const names = (part: string, ending: string): string[] =>
  readdirSync(new URL(part, folder))
    .filter((file) => file.endsWith(ending))
    .map((file) => file.slice(0, -ending.length))
    .toSorted();

/** Every recording, by name. Throws where a script has no answers or answers have no script. */
export function loadRecordings(): Recording[] {
  const scripts = names('scripts/', '.txt');
  const results = names('results/', '.res');
  const alone = [
    ...scripts.filter((name) => !results.includes(name)),
    ...results.filter((name) => !scripts.includes(name)),
  ];
  if (alone.length > 0)
    throw new Error(`a script without results, or the reverse: ${alone.join(' ')}`);
  return scripts.map((name) => ({
    name,
    script: readFileSync(new URL(`scripts/${name}.txt`, folder), 'utf8'),
    lines: readFileSync(new URL(`results/${name}.res`, folder), 'utf8')
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('SETUP')),
  }));
}

/** One line where the engine answers something else than the kernel. */
export interface Difference {
  readonly script: string;
  readonly line: number;
  readonly op: string;
  readonly expected: string;
  readonly got: string;
  /** The engine's own explanation, where it refused. */
  readonly why: string;
}

export interface Comparison {
  readonly name: string;
  readonly lines: number;
  readonly differences: readonly Difference[];
  readonly left: Played['left'];
}

/** Plays a recording and compares line by line. */
export function compare({ name, script, lines }: Recording): Comparison {
  const played = playScript(script);
  const calls = parseScript(script);
  const count = Math.max(lines.length, played.lines.length);
  const differences: Difference[] = [];
  for (let line = 0; line < count; line++) {
    const expected = lines[line] ?? '(nothing)';
    const got = played.lines[line] ?? '(nothing)';
    if (expected === got) continue;
    const op = calls[line]?.text ?? '(the end)';
    differences.push({ script: name, line, op, expected, got, why: played.why[line] ?? '' });
  }
  return { name, lines: count, differences, left: played.left };
}

/** A difference as people read it. */
export function describeDifference({ script, line, op, expected, got, why }: Difference): string {
  const reason = why ? `\n  because   ${why}` : '';
  return `${script}, call ${line}: ${op}\n  the kernel answered ${expected}\n  the engine answered ${got}${reason}`;
}

/** The scripts that must be equal in every line. */
export function equalList(): string[] {
  return readFileSync(LIST, 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
}

const HEAD = `# Scripts on which the engine answers every call as Linux does. It only grows: \`npm test\` fails where one falls out;
# \`GOLDEN_UPDATE=1 npx vitest run test/golden\` adds those that have become equal.
`;

export function writeEqualList(equal: readonly string[]): void {
  writeFileSync(LIST, `${HEAD}${equal.toSorted().join('\n')}\n`);
}
