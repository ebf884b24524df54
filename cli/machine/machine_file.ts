// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import { type Document, isMap, isNode, isPair, LineCounter, type Node, parseDocument } from 'yaml';
import type { core } from 'zod';
import { HostError } from '../../host/host_error.ts';
import type { MachineDescription } from '../../src/machine/description.ts';
import { presets } from '../../src/machine/presets.ts';
import { machineSchema } from './schema.ts';

/** A mistake in a machine file: where, and what was expected. Lines and columns count from 1. */
export interface Mistake {
  readonly line: number;
  readonly column: number;
  readonly text: string;
}

/** Mistakes shown at a time: the rest are often consequences. */
const SHOWN = 10;

/** The node at a path of keys and indexes, or its nearest ancestor that is there. */
function nodeAt(document: Document, path: readonly PropertyKey[]): Node | null {
  for (let length = path.length; length > 0; length--) {
    const node = document.getIn(path.slice(0, length), true);
    if (isNode(node)) return node;
  }
  return document.contents;
}

/** Where an issue is: the key itself where it is not known, else the value. */
function offsetOf(document: Document, issue: core.$ZodIssue): number {
  const node = nodeAt(document, issue.path);
  if (issue.code === 'unrecognized_keys' && isMap(node)) {
    const pair = node.items.find((item) => isPair(item) && String(item.key) === issue.keys[0]);
    if (isPair(pair) && isNode(pair.key)) return pair.key.range?.[0] ?? 0;
  }
  return node?.range?.[0] ?? 0;
}

const show = (path: readonly PropertyKey[]): string =>
  path
    .map((key) => (typeof key === 'number' ? `[${key}]` : `.${String(key)}`))
    .join('')
    .replace(/^\./, '');

function explain(issue: core.$ZodIssue): string {
  const where = show(issue.path);
  return where === '' ? issue.message : `${where}: ${issue.message}`;
}

/** Reads the text of a machine file: the machine, or every mistake in it. */
export function parseMachine(text: string): MachineDescription | Mistake[] {
  const lines = new LineCounter();
  const document = parseDocument(text, {
    intAsBigInt: true,
    lineCounter: lines,
    prettyErrors: false,
  });
  const at = (offset: number, message: string): Mistake => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1), text: message };
  };
  if (document.errors.length) {
    return document.errors.map(({ pos, message }) => at(pos[0], message));
  }
  const checked = machineSchema.safeParse(document.toJS());
  if (checked.success) return checked.data;
  return checked.error.issues.map((issue) => at(offsetOf(document, issue), explain(issue)));
}

/**
 * A machine by the name of a preset, or from a YAML file.
 * @throws HostError that says every mistake with its line and column
 */
export function findMachine(name: string): MachineDescription {
  const preset = presets.find((candidate) => candidate.name === name);
  if (preset) return preset;
  let text: string;
  try {
    text = readFileSync(name, 'utf8');
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    const known = presets.map((candidate) => candidate.name).join(', ');
    throw new HostError(`no machine "${name}": it is none of ${known}, and as a file: ${why}`);
  }
  const machine = parseMachine(text);
  if (!Array.isArray(machine)) return machine;
  const shown = machine
    .slice(0, SHOWN)
    .map(({ line, column, text: what }) => `${name}:${line}:${column}: ${what}`);
  const more = machine.length > SHOWN ? [`and ${machine.length - SHOWN} more`] : [];
  throw new HostError(['the machine file has mistakes:', ...shown, ...more].join('\n'));
}
