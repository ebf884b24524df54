// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

/** Makes one file of main.ts and the engine in a new folder of its own; the caller removes the folder. */
export async function bundle() {
  const folder = mkdtempSync(join(tmpdir(), 'iommulator-model-'));
  const file = join(folder, 'main.mjs');
  const bundled = await rolldown({
    input: fileURLToPath(new URL('main.ts', import.meta.url)),
    platform: 'node',
    logLevel: 'silent',
  });
  await bundled.write({ file, sourcemap: 'inline' });
  return { folder, file };
}
