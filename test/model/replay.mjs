// SPDX-License-Identifier: Apache-2.0
/** `node test/model/replay.mjs FILE`: runs a saved sequence, prints its steps, and says where engine and model differ. */
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { bundle } from './bundle.mjs';

const script = process.argv[2];
if (script === undefined) {
  console.error('usage: node test/model/replay.mjs FILE, a file that npm run test:model has saved');
  process.exit(2);
}
const { folder, file } = await bundle();
const { status } = spawnSync(process.execPath, ['--enable-source-maps', file, 'replay', script], {
  stdio: 'inherit',
});
rmSync(folder, { recursive: true, force: true });
process.exitCode = status ?? 1;
