// SPDX-License-Identifier: Apache-2.0

/** One line of a script: `op key=value key=value`. */
export interface ScriptLine {
  readonly op: string;
  /** The first value of each key, as written. */
  readonly args: ReadonlyMap<string, string>;
  /** For people. */
  readonly text: string;
}

/** The calls of a script, in order; comments and empty lines are not counted. */
export function parseScript(script: string): ScriptLine[] {
  const lines: ScriptLine[] = [];
  for (const text of script.split(/\r?\n/)) {
    const [op, ...words] = text.split(/[ \t]+/).filter((word) => word !== '');
    if (op === undefined || op.startsWith('#')) continue;
    const args = new Map<string, string>();
    for (const word of words) {
      const equals = word.indexOf('=');
      const key = word.slice(0, equals);
      if (equals >= 0 && !args.has(key)) args.set(key, word.slice(equals + 1));
    }
    lines.push({ op, args, text });
  }
  return lines;
}
