// SPDX-License-Identifier: Apache-2.0
/**
 * Joins what tsc built into a few files for `bin/iommulator`: loading a hundred modules one by one takes 80 ms of every run, and
 * a run should add less than 180. Packages stay apart, and so does what only some commands load.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

const root = fileURLToPath(new URL('..', import.meta.url));
const out = join(root, 'dist/bundle');

const bundle = await rolldown({
  input: join(root, 'dist/cli/main.js'),
  external: [/^node:/, 'koffi', 'commander', 'yaml', 'zod'],
  platform: 'node',
});
rmSync(out, { recursive: true, force: true });
await bundle.write({
  dir: out,
  format: 'esm',
  sourcemap: true,
  entryFileNames: 'main.js',
  chunkFileNames: '[name]-[hash].js',
});
