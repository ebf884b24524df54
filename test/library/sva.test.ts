// SPDX-License-Identifier: Apache-2.0
/** The example of shared virtual addressing, as users of the library run it. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const pathOf = (name: string): string => fileURLToPath(new URL(`../../${name}`, import.meta.url));
/** The output that the README shows. */
const shown = /```text\n([^]*?)```/.exec(readFileSync(pathOf('examples/README.md'), 'utf8'))?.[1];

test('examples/sva.ts prints what the README shows', () => {
  const program = pathOf('dist/examples/sva.js');
  expect(execFileSync(process.execPath, [program], { encoding: 'utf8' })).toBe(shown);
});
