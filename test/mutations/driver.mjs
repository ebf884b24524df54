// SPDX-License-Identifier: Apache-2.0
/**
 * `node test/mutations/driver.mjs [FILE...]`: takes out of the driver for VT-d, one line at a time, each invalidation, each write of a
 * table, a queue or a register, each switch in a device, and each check, in a copy of the tree, and runs the driver's tests. One must fail each time. Exit 1
 * where a line is missed by none that is not in `survivors` with its reason.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { copyTree } from './copy.mjs';

const FOLDER = 'src/drivers/intel';
const LIMIT_MS = 120_000;

/** What is taken out: whole statements, or whole items of a list, on one line. */
const kinds = [
  { kind: 'check', is: /^if \(.*\) return (-Errno\.\w+|false|rc|\w+);$/ },
  { kind: 'invalidation', is: /^(else )?(\(batch\) => )?\w*[iI]otlb\w*\(.*[;,]$/ },
  { kind: 'invalidation', is: /^(\(batch\) => )?(context|pasid)\w+\(batch.*[;,]$/ },
  { kind: 'invalidation', is: /^(if \(.*\) )?\w+\(batch\.next\(\).*;$/ },
  { kind: 'write', is: /^(if \(.*\) )?(this\.#?(write\w*|put|flush)|memory\.write)\(.*;$/ },
  { kind: 'write', is: /^(words|at|lanes|status\.lanes|absent)\[.*\] = .*;$/ },
  { kind: 'device', is: /^(if \(.*\) )?(this\.)?(fn|device|info)\.(ats|pasid|pri)\?\.\w+\(.*;$/ },
  { kind: 'device', is: /^(this\.)?#?(updateAts|distrust|timedOut)\(.*;$/ },
  { kind: 'write', is: /^(if \(.*\) )?mmio\.write(32|64)\(.*;$/ },
];

/** Lines that no test misses, and why that is right, by file and text: they are not tried. */
const survivors = /** @type {Readonly<Record<string, string>>} */ ({
  'intel_iommu.ts: if (!unit) return -Errno.ENODEV;':
    'core asks only about devices that the driver has probed',
  'intel_iommu.ts: if (!info) return false;': 'the same',
  'intel_iommu.ts: if (!caps) return -Errno.ENODEV;': 'the same',
  'pasid_table.ts: if (pasid >= this.size) return -Errno.ENODEV;':
    'core lets no PASID through that the device has not',
  'attachments.ts: if (!info) return -Errno.ENODEV;': 'the same',
  'intel_iommu.ts: if (!userData) return -Errno.EOPNOTSUPP;':
    'core asks for nested domains only with data of the client, and refuses in the same way',
  'unit.ts: if (rc !== 0) return rc;':
    'three of them: after the first command the next one fails with the same error',
  'unit.ts: if (isOnBefore === isOn) return 0;': 'spares a command that changes nothing',
});

const asked = process.argv.slice(2);
const copy = copyTree();
const files = readdirSync(join(copy, FOLDER)).filter(
  (name) =>
    name.endsWith('.ts') &&
    !name.endsWith('.test.ts') &&
    !/^(fake|caching|guest|random)_/.test(name) &&
    (asked.length === 0 || asked.includes(name)),
);

/** Runs that were ended at the limit: the line made a test hang, or the machine was busy and nothing is known. */
let overran = 0;

/** Whether the driver's tests pass. */
function passes() {
  const vitest = join(copy, 'node_modules/vitest/vitest.mjs');
  // One process for all files: reading the modules takes longer than the tests.
  const once = ['--no-isolate', '--maxWorkers=1', '--bail=1', '--reporter=dot'];
  const args = [vitest, 'run', FOLDER, ...once];
  const env = { ...process.env, VTD_SEQUENCES: '60' };
  const done = spawnSync(process.execPath, args, { cwd: copy, timeout: LIMIT_MS, env });
  if (done.error) overran++;
  return done.status === 0;
}

if (!passes()) {
  console.error('the tests fail before anything is taken out: they can not say anything');
  process.exit(1);
}
let bad = 0;
let tried = 0;
const seen = new Set();
for (const name of files) {
  const path = join(copy, FOLDER, name);
  const whole = readFileSync(path, 'utf8');
  const lines = whole.split('\n');
  for (const [index, line] of lines.entries()) {
    const text = line.trim();
    const found = kinds.find(({ is }) => is.test(text));
    if (!found) continue;
    const key = `${name}: ${text}`;
    seen.add(key);
    if (survivors[key] !== undefined) continue;
    const without = lines.with(index, text.startsWith('else ') ? 'else ;' : '');
    writeFileSync(path, without.join('\n'));
    tried++;
    const before = overran;
    const isMissed = passes();
    if (overran > before) console.log(`OVERRAN  ${name}:${index + 1} (${found.kind}) ${text}`);
    if (!isMissed) continue;
    bad++;
    console.log(`SURVIVED ${name}:${index + 1} (${found.kind}) ${text}`);
  }
  writeFileSync(path, whole);
}
for (const key of Object.keys(survivors)) {
  if (asked.length > 0 || seen.has(key)) continue;
  bad++;
  console.log(`STALE    ${key}`);
}
console.log(
  `${tried} lines taken out, ${Object.keys(survivors).length} kinds left in; ${overran} ended at the limit; ${bad} not as they should be`,
);
process.exitCode = bad > 0 ? 1 : 0;
