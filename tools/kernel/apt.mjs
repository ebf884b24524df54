// SPDX-License-Identifier: Apache-2.0
/**
 * Debian packages read without installing anything: apt with its own lists and cache in a folder of ours, and
 * packages unpacked beside them. Works as any user.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** The tests cannot run here, for a reason that is not the project's fault. The message says what is missing. */
export class Skip extends Error {}

/** @param {string} command */
export function have(command) {
  return spawnSync('sh', ['-c', `command -v ${command}`], { stdio: 'ignore' }).status === 0;
}

/** The Debian mirror that this system uses, else Debian's own. */
function mirror() {
  const read = (/** @type {string} */ file) => (existsSync(file) ? readFileSync(file, 'utf8') : '');
  const deb822 = /^URIs: *(\S*debian)\/?(?: |$)/m.exec(
    read('/etc/apt/sources.list.d/debian.sources'),
  )?.[1];
  const oneLine = /^deb (?:\[[^\]]*\] )?(\S*debian)\/? /m.exec(read('/etc/apt/sources.list'))?.[1];
  return deb822 ?? oneLine ?? 'http://deb.debian.org/debian';
}

/** apt with Debian's own suites, which carry newer kernels than the system's release. */
export class PrivateApt {
  /**
   * @param {string} folder  where lists and downloads are kept
   * @param {{ suites?: readonly string[], hasSystemPackages?: boolean }} [options]  with `hasSystemPackages: false` nothing counts as
   *   installed, so that a package comes with all that it needs
   */
  constructor(folder, { suites = ['trixie-backports', 'sid'], hasSystemPackages = true } = {}) {
    for (const command of ['apt-get', 'apt-cache', 'dpkg-deb'])
      if (!have(command))
        throw new Skip(`${command} is missing: what is tested with comes as a Debian package`);
    if (!existsSync(keyring))
      throw new Skip(
        `${keyring} is missing: install it with: apt-get install debian-archive-keyring`,
      );
    this.folder = folder;
    for (const part of ['etc', 'parts', 'state/lists/partial', 'cache/archives/partial'])
      mkdirSync(join(folder, part), { recursive: true });
    writeFileSync(
      join(folder, 'etc/sources.list'),
      suites.map((suite) => `deb [signed-by=${keyring}] ${mirror()} ${suite} main\n`).join(''),
    );
    const ownStatus = join(folder, 'status');
    if (!hasSystemPackages) writeFileSync(ownStatus, '');
    const settings = {
      'Dir::Etc::sourcelist': join(folder, 'etc/sources.list'),
      'Dir::Etc::sourceparts': join(folder, 'parts'),
      'Dir::Etc::preferencesparts': join(folder, 'parts'),
      'Dir::State': join(folder, 'state'),
      'Dir::State::status': hasSystemPackages ? '/var/lib/dpkg/status' : ownStatus,
      'Dir::Cache': join(folder, 'cache'),
      'APT::Sandbox::User': 'root',
      'Acquire::Retries': '1',
      'Acquire::http::Timeout': '30',
    };
    this.options = Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
  }

  /** Fetches the package lists. What cannot be reached is missing from them afterwards. */
  update() {
    spawnSync('apt-get', ['-qq', ...this.options, 'update'], {
      stdio: ['ignore', 'ignore', 'ignore'],
    });
  }

  /** Package names that match a regular expression (apt's). @param {string} pattern @returns {string[]} */
  names(pattern) {
    const out = execFileSync('apt-cache', [...this.options, 'search', '--names-only', pattern], {
      encoding: 'utf8',
    });
    return out.split('\n').flatMap((line) => line.split(' ')[0] || []);
  }

  /** Downloads a package and returns the file's path. @param {string} name */
  download(name) {
    const folder = join(this.folder, 'deb', name);
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    const done = spawnSync('apt-get', ['-qq', ...this.options, 'download', name], {
      cwd: folder,
      encoding: 'utf8',
    });
    const file = readdirSync(folder).find((entry) => entry.endsWith('.deb'));
    if (done.status !== 0 || file === undefined)
      throw new Skip(
        `the package ${name} could not be downloaded: ${done.stderr.trim() || 'no network?'}`,
      );
    return join(folder, file);
  }

  /**
   * Downloads a package with all that it needs and is not installed, and returns the files' paths.
   * @param {string} name
   * @param {string} suite  that is preferred
   */
  downloadWithAll(name, suite) {
    const done = spawnSync(
      'apt-get',
      [
        ...['-qq', '-y', '-d', '--no-install-recommends', ...this.options],
        ...['-o', 'Debug::NoLocking=true', 'install', '-t', suite, name],
      ],
      { encoding: 'utf8' },
    );
    const folder = join(this.folder, 'cache/archives');
    const files = readdirSync(folder).filter((file) => file.endsWith('.deb'));
    if (done.status !== 0 || files.length === 0)
      throw new Skip(
        `the package ${name} could not be downloaded (can the Debian archive be reached?): ${done.stderr.trim().split('\n')[0]}`,
      );
    return files.map((file) => join(folder, file));
  }
}

/**
 * Downloads a package of the system's own release and unpacks it into a folder: for a library that the tests link
 * with where it is not installed.
 * @param {string} name
 * @param {string} folder
 */
export function unpackSystemPackage(name, folder) {
  mkdirSync(folder, { recursive: true });
  const done = spawnSync('apt-get', ['-qq', 'download', name], { cwd: folder, encoding: 'utf8' });
  const file = readdirSync(folder).find((entry) => entry.endsWith('.deb'));
  if (done.status !== 0 || file === undefined)
    throw new Skip(
      `${name} is not installed and could not be downloaded (install it, or run apt-get update): ${done.stderr.trim()}`,
    );
  execFileSync('dpkg-deb', ['-x', join(folder, file), folder]);
  rmSync(join(folder, file));
}
