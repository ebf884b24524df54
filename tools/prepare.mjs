// SPDX-License-Identifier: Apache-2.0
/**
 * Makes a checkout ready to run: installs the packages where they are missing or outdated and builds where a source
 * has changed. npm runs it before `start`, `test` and the others, so that a fresh clone needs nothing typed before.
 * It uses Node's own modules only, since it runs before node_modules exists. Where nothing has changed it takes some
 * ten milliseconds; what is up to date is known by a digest, not by times, which a clone does not keep. With --install-only it leaves the build alone.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { withLock } from './lib/lock.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const installedStamp = join(root, 'node_modules/.iommulator-lock');
const builtStamp = join(root, 'dist/.inputs');
const compiler = join(root, 'node_modules/typescript/bin/tsc');

/** Ends with a sentence instead of a stack. */
class Failure extends Error {}

/** @param {string} path */
const read = (path) => (existsSync(path) ? readFileSync(path, 'utf8') : '');

const lockDigest = () =>
  createHash('sha256')
    .update(read(join(root, 'package-lock.json')))
    .digest('hex');

/**
 * What the build was made from: each source's path, size and time. A time that changed without the content costs one
 * incremental build and no more.
 */
function inputsDigest() {
  const hash = createHash('sha256').update(lockDigest());
  const add = (/** @type {string} */ path) => {
    const { size, mtimeMs } = statSync(path);
    hash.update(`${path.slice(root.length)}\0${size}\0${mtimeMs}\n`);
  };
  for (const file of ['tsconfig.base.json', 'tsconfig.json', 'tools/bundle.mjs'])
    add(join(root, file));
  const projects = /** @type {{ references: { path: string }[] }} */ (
    JSON.parse(read(join(root, 'tsconfig.json')))
  ).references;
  for (const { path } of projects) {
    const folder = join(root, path);
    for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' }).toSorted())
      if (/(\.ts|tsconfig\.json)$/.test(name) && !name.endsWith('.test.ts'))
        add(join(folder, name));
  }
  return hash.digest('hex');
}

const isInstalled = () => existsSync(compiler) && read(installedStamp) === lockDigest();
const isBuilt = () => read(builtStamp) === inputsDigest();

function install() {
  if (isInstalled()) return;
  // Installed by hand from this very lock file: npm writes its own copy last.
  const npmsCopy = join(root, 'node_modules/.package-lock.json');
  const byHand =
    existsSync(compiler) &&
    existsSync(npmsCopy) &&
    !existsSync(installedStamp) &&
    statSync(npmsCopy).mtimeMs >= statSync(join(root, 'package-lock.json')).mtimeMs;
  if (!byHand) {
    console.log('installing packages (npm ci) ...');
    const npm = process.env['npm_execpath'];
    const [command, ...before] = npm?.endsWith('.js') ? [process.execPath, npm] : ['npm'];
    const done = spawnSync(
      command ?? 'npm',
      [...before, 'ci', '--no-audit', '--no-fund', '--no-update-notifier', '--loglevel=error'],
      {
        cwd: root,
        stdio: 'inherit',
      },
    );
    if (done.status !== 0)
      throw new Failure('npm ci failed: see above. Is the package registry reachable?');
  }
  writeFileSync(installedStamp, lockDigest());
}

function build() {
  const inputs = inputsDigest();
  if (read(builtStamp) === inputs) return;
  console.log('building (tsc -b) ...');
  for (const step of [[compiler, '-b'], [join(root, 'tools/bundle.mjs')]]) {
    const done = spawnSync(process.execPath, step, { cwd: root, stdio: 'inherit' });
    if (done.status !== 0) throw new Failure('the build failed: see above.');
  }
  mkdirSync(join(root, 'dist'), { recursive: true });
  writeFileSync(builtStamp, inputs);
}

async function prepare() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19))
    throw new Failure(`iommulator needs Node 20.19 or later; this is ${process.versions.node}.`);
  const installOnly = process.argv.includes('--install-only');
  if (isInstalled() && (installOnly || isBuilt())) return;
  await withLock(join(root, '.cache/prepare.lock'), 'another installation or build', () => {
    install();
    if (!installOnly) build();
  });
}

try {
  await prepare();
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
