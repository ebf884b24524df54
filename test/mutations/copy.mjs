// SPDX-License-Identifier: Apache-2.0
/** A copy of `src/`, and of the tests of rules, in which code can be broken, and its tests run. */
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));

/** @returns {string} where it is; it goes with the process */
export function copyTree() {
  const copy = mkdtempSync(join(tmpdir(), 'iommulator-mutations-'));
  process.on('exit', () => rmSync(copy, { recursive: true, force: true }));
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));
  const names = [
    'src',
    'package.json',
    'vitest.config.ts',
    'test/setup.ts',
    'test/rules',
    'tsconfig.base.json',
    'tsconfig.json',
  ];
  for (const name of names) cpSync(join(root, name), join(copy, name), { recursive: true });
  const references = [{ path: 'src' }];
  writeFileSync(join(copy, 'tsconfig.json'), JSON.stringify({ files: [], references }));
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  return copy;
}
