// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

/**
 * Makes one file of main.ts, the host and the engine, in a new folder of its own that the caller removes; inside the project, so that the
 * packages are found.
 */
export async function bundle() {
  const cache = fileURLToPath(new URL('../../../.cache', import.meta.url));
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, 'qemu-'));
  const file = join(folder, 'main.mjs');
  const bundled = await rolldown({
    input: fileURLToPath(new URL('main.ts', import.meta.url)),
    external: [/^node:/, 'koffi'],
    platform: 'node',
    logLevel: 'silent',
  });
  await bundled.write({ file, sourcemap: 'inline' });
  return { folder, file };
}
