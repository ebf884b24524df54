// SPDX-License-Identifier: Apache-2.0
// Writes docs/support.md from the ioctl tables of the built engine; with --check, fails where it is out of date.
import { readFileSync, writeFileSync } from 'node:fs';
import { supportText } from './support_text.mjs';

const page = new URL('../docs/support.md', import.meta.url);
const engine = new URL('../dist/src/iommufd/', import.meta.url);
const vfio = new URL('../dist/src/vfio/', import.meta.url);
const { ioctlOps, vfioOps } = await import(new URL('ioctls.js', engine).href);
const { testOps } = await import(new URL('selftest.js', engine).href);
const { deviceOps } = await import(new URL('ioctls.js', vfio).href);
const { groupOps } = await import(new URL('group_ioctls.js', vfio).href);
const text = supportText({ ioctlOps, vfioOps, deviceOps, groupOps, testOps });

if (!process.argv.includes('--check')) writeFileSync(page, text);
else if (readFileSync(page, 'utf8') !== text) {
  console.error('docs/support.md is out of date: run "npm run build && node tools/support.mjs"');
  process.exitCode = 1;
}
