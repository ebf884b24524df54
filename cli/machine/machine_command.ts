// SPDX-License-Identifier: Apache-2.0
import { isScalar, parseDocument, stringify, visit } from 'yaml';
import type { MachineDescription } from '../../src/machine/description.ts';
import { defaultMachine, presets } from '../../src/machine/presets.ts';
import { findMachine } from './machine_file.ts';

/** A machine as the file that describes it, addresses in hexadecimal. */
export function machineText(machine: MachineDescription): string {
  const document = parseDocument(stringify(machine), { intAsBigInt: true });
  visit(document, {
    Pair: (_, { key, value }) => {
      if (!isScalar(key) || !isScalar(value)) return;
      if (key.value === 'start' || key.value === 'last') value.format = 'HEX';
    },
  });
  return document.toString();
}

/** `iommulator machine --list`: the presets with their summaries. */
export function presetList(): string {
  const width = Math.max(...presets.map(({ name }) => name.length));
  return presets.map(({ name, summary }) => `${name.padEnd(width)}  ${summary}\n`).join('');
}

/** `iommulator machine [NAME|FILE]`: the machine in force. Throws HostError. */
export function describeMachine(name: string | undefined): string {
  return machineText(name === undefined ? defaultMachine : findMachine(name));
}
