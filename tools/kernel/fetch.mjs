// SPDX-License-Identifier: Apache-2.0
/**
 * Fetches the part of the kernel's source that the tests are made of: the UAPI headers and the iommufd selftest.
 * It comes from Debian's package linux-source-VERSION, is kept in the user's cache folder and never enters the
 * repository: the kernel is GPL-2.0, this project is not.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { withLock } from '../lib/lock.mjs';
import { PrivateApt, Skip, have, unpackSystemPackage } from './apt.mjs';

export { Skip };

/** The version whose behaviour the engine follows. */
export const wantedVersion = '7.2';

/** @typedef {{ version: string, release: string, tree: string, includes: string[] }} Kernel
 *   version: `7.2`; release: `7.2.13`; tree: the unpacked part; includes: folders for `gcc -I` */

/** Where downloads and compiled tests are kept between runs. */
export function cacheFolder() {
  return join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'iommulator');
}

const architecture = process.arch === 'arm64' ? 'arm64' : 'x86';

/** What of the tree is unpacked, as tar patterns below its top: 19 MB of 1.6 GB. */
const parts = [
  'Makefile',
  'Kbuild',
  'scripts/*',
  'usr/*',
  'include/uapi/*',
  'include/asm-generic/Kbuild',
  `arch/${architecture}/Makefile*`,
  `arch/${architecture}/include/*`,
  `arch/${architecture}/entry/syscalls/*`,
  `arch/${architecture}/tools/*`,
  'drivers/iommu/iommufd/iommufd_test.h',
  'tools/testing/selftests/iommu/*',
  'tools/testing/selftests/kselftest*',
];

/** Versions as numbers, so that 7.10 follows 7.9. @param {string} a @param {string} b */
function compareVersions(a, b) {
  const [majorA = 0, minorA = 0] = a.split('.').map(Number);
  const [majorB = 0, minorB = 0] = b.split('.').map(Number);
  return majorA - majorB || minorA - minorB;
}

/**
 * The version to take: the one that is wanted, else the next one that there is.
 * @param {readonly string[]} available
 * @param {string} wanted
 */
export function chooseVersion(available, wanted) {
  return available
    .filter((version) => compareVersions(version, wanted) >= 0)
    .toSorted(compareVersions)[0];
}

/** @param {string} tree */
function releaseOf(tree) {
  const makefile = readFileSync(join(tree, 'Makefile'), 'utf8');
  const part = (/** @type {string} */ name) =>
    new RegExp(`^${name} = (\\d+)`, 'm').exec(makefile)?.[1] ?? '0';
  return `${part('VERSION')}.${part('PATCHLEVEL')}.${part('SUBLEVEL')}`;
}

/** @param {string} version */
const folderOf = (version) => join(cacheFolder(), `kernel-${version}`);

function cachedVersions() {
  return readdirSync(cacheFolder()).flatMap((name) => /^kernel-(\d+\.\d+)$/.exec(name)?.[1] ?? []);
}

/** @param {string} wanted @returns {string} the version that was made */
function fetchTree(wanted) {
  for (const command of ['gcc', 'make', 'tar', 'xz'])
    if (!have(command))
      throw new Skip(
        `${command} is missing; install it with: apt-get install gcc make libc6-dev xz-utils`,
      );
  const apt = new PrivateApt(join(cacheFolder(), 'apt-private'));
  console.log(`fetching the source of Linux ${wanted} (about 190 MB, once) ...`);
  apt.update();
  const available = apt
    .names('^linux-source-[0-9]+[.][0-9]+$')
    .map((name) => name.replace('linux-source-', ''));
  // Without the network, what an earlier run took instead is better than nothing.
  const version = chooseVersion(available.length > 0 ? available : cachedVersions(), wanted);
  if (version === undefined)
    throw new Skip(
      available.length === 0
        ? 'the Debian archive cannot be reached, and no kernel source is cached'
        : `the Debian archive has no linux-source-${wanted} or later (it has ${available.join(', ')})`,
    );
  if (version !== wanted)
    console.log(`Linux ${wanted} cannot be had (it may have left the archive): taking ${version}`);
  if (existsSync(folderOf(version))) return version;
  const deb = apt.download(`linux-source-${version}`);
  const work = `${folderOf(version)}.tmp`;
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work, { recursive: true });
  const top = `linux-source-${version}`;
  const unpack =
    'set -o pipefail; dpkg-deb --fsys-tarfile "$1" | tar -xOf - "./usr/src/$2.tar.xz" | ' +
    'tar -xJf - -C "$3" --strip-components=1 --wildcards "${@:4}"';
  // Not every pattern exists on every architecture, which tar reports; what must exist is looked for below.
  const unpacked = spawnSync(
    'bash',
    ['-c', unpack, 'unpack', deb, top, work, ...parts.map((p) => `${top}/${p}`)],
    {
      encoding: 'utf8',
    },
  );
  rmSync(join(cacheFolder(), 'apt-private/deb'), { recursive: true, force: true });
  for (const needed of [
    'Makefile',
    'include/uapi/linux/iommufd.h',
    'tools/testing/selftests/iommu/iommufd.c',
  ])
    if (!existsSync(join(work, needed)))
      throw new Error(`${top} has no ${needed}: ${unpacked.stderr.trim()}`);
  console.log('making its headers ...');
  execFileSync('make', ['-s', 'headers'], { cwd: work, stdio: ['ignore', 'ignore', 'inherit'] });
  renameSync(work, folderOf(version));
  return version;
}

/**
 * The kernel's headers and selftests, fetched where they are not cached. Throws {@link Skip} where they cannot be had.
 * @param {string} [wanted]
 * @returns {Promise<Kernel>}
 */
export async function prepareKernel(wanted = process.env['IOMMULATOR_KERNEL'] || wantedVersion) {
  let version = wanted;
  if (!existsSync(folderOf(version)))
    await withLock(
      join(cacheFolder(), 'kernel.lock'),
      'another download of the kernel source',
      () => {
        if (!existsSync(folderOf(version))) version = fetchTree(wanted);
      },
    );
  const tree = folderOf(version);
  return {
    version,
    release: releaseOf(tree),
    tree,
    includes: [join(tree, 'usr/include'), join(tree, 'drivers/iommu/iommufd')],
  };
}

/**
 * Flags for a program that uses libcap: the system's, else a copy unpacked in the cache.
 * @returns {{ compile: string[], link: string[] }}
 */
export function libcap() {
  if (existsSync('/usr/include/sys/capability.h')) return { compile: [], link: ['-lcap'] };
  const folder = join(cacheFolder(), 'libcap-dev');
  if (!existsSync(join(folder, 'usr/include/sys/capability.h')))
    unpackSystemPackage('libcap-dev', folder);
  const multiarch = execFileSync('gcc', ['-print-multiarch'], { encoding: 'utf8' }).trim();
  return {
    compile: ['-I', join(folder, 'usr/include')],
    link: [join(folder, 'usr/lib', multiarch, 'libcap.a')],
  };
}
