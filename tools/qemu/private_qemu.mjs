// SPDX-License-Identifier: Apache-2.0
/**
 * Debian's newest QEMU in the user's cache folder, with its own loader and libraries: nothing is installed, and the system may be older,
 * or another one. About 60 MB are fetched, once.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { withLock } from '../lib/lock.mjs';
import { PrivateApt, Skip } from '../kernel/apt.mjs';
import { cacheFolder } from '../kernel/fetch.mjs';

const suites = ['trixie', 'trixie-backports'];
const program = 'qemu-system-x86_64';
/** What of the packages nobody needs here. */
const unused = ['doc', 'man', 'locale', 'icons', 'lintian'];

const folder = join(cacheFolder(), 'qemu-system');
const wrapper = join(folder, program);

/** @param {string} root */
function loaderOf(root) {
  const libraries = join(root, 'usr/lib');
  for (const part of readdirSync(libraries)) {
    if (!part.includes('-linux-gnu')) continue;
    const loader = readdirSync(join(libraries, part)).find((file) =>
      /^ld-linux-.*\.so\./.test(file),
    );
    if (loader !== undefined) return join(libraries, part, loader);
  }
  throw new Skip("Debian's packages for QEMU have no loader");
}

function fetch() {
  console.log('fetching QEMU (about 60 MB, once) ...');
  const aptFolder = join(folder, 'apt');
  const apt = new PrivateApt(aptFolder, { suites, hasSystemPackages: false });
  apt.update();
  const packages = apt.downloadWithAll('qemu-system-x86', 'trixie-backports');
  const root = join(folder, 'root');
  const work = `${root}.tmp`;
  for (const path of [root, work]) rmSync(path, { recursive: true, force: true });
  for (const file of packages) execFileSync('dpkg-deb', ['-x', file, work]);
  for (const part of unused)
    rmSync(join(work, 'usr/share', part), { recursive: true, force: true });
  renameSync(work, root);
  rmSync(aptFolder, { recursive: true, force: true });
  const loader = loaderOf(root);
  const libraries = join(loader, '..');
  const quoted = (/** @type {string} */ text) => `'${text.replaceAll("'", String.raw`'\''`)}'`;
  const command = [
    ...[loader, '--library-path', libraries, '--argv0', program],
    ...[join(root, 'usr/bin', program), '-L', join(root, 'usr/share/qemu')],
    ...['-L', join(root, 'usr/share/seabios')],
  ];
  writeFileSync(
    `${wrapper}.tmp`,
    `#!/bin/sh\nexport QEMU_MODULE_DIR=${quoted(join(libraries, 'qemu'))}\nexec ${command.map(quoted).join(' ')} "$@"\n`,
  );
  chmodSync(`${wrapper}.tmp`, 0o755);
  renameSync(`${wrapper}.tmp`, wrapper);
}

/** The program, fetched where it is not cached. Throws {@link Skip} where it cannot be had. @returns {Promise<string>} */
export async function privateQemu() {
  if (!existsSync(wrapper))
    await withLock(join(cacheFolder(), 'qemu.lock'), 'another download of QEMU', () => {
      if (!existsSync(wrapper)) fetch();
    });
  return wrapper;
}
