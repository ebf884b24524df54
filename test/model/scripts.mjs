// SPDX-License-Identifier: Apache-2.0
/** `node test/model/scripts.mjs FROM TO FOLDER`: writes sequences FROM to TO - 1 as scripts that test/golden/player/exec.c plays on a real kernel. */
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { bundle } from './bundle.mjs';

const [from, to, target] = process.argv.slice(2);
if (!(Number(from) >= 1) || !(Number(to) > Number(from)) || target === undefined) {
  console.error('usage: node test/model/scripts.mjs FROM TO FOLDER');
  process.exit(2);
}
const { folder, file } = await bundle();
const args = ['--enable-source-maps', file, 'scripts', from, to, target];
const { status } = spawnSync(process.execPath, args, { stdio: 'inherit' });
rmSync(folder, { recursive: true, force: true });
process.exitCode = status ?? 1;
