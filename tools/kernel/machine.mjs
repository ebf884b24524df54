// SPDX-License-Identifier: Apache-2.0
/** What the kernel's tests need of the machine: huge pages, and to be root. */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { withUndo } from '../lib/on_exit.mjs';

const setting = '/proc/sys/vm/nr_hugepages';

/** What the kernel's tests ask for at once, in pages of 2 MiB, with some to spare. */
const WANTED = 128;

/** @param {string} field  of /proc/meminfo */
function meminfo(field) {
  return Number(
    new RegExp(`^${field}: +(\\d+)`, 'm').exec(readFileSync('/proc/meminfo', 'utf8'))?.[1] ?? 0,
  );
}

/**
 * Runs `work` with huge pages reserved where this user may reserve them, and gives them back afterwards.
 * @template T
 * @param {boolean} reserve  false: without
 * @param {(available: boolean) => Promise<T>} work  told whether there are enough free ones
 * @returns {Promise<T>}
 */
export async function withHugePages(reserve, work) {
  if (!reserve) return work(false);
  const before = meminfo('HugePages_Total');
  const missing = WANTED - meminfo('HugePages_Free');
  if (missing > 0) {
    try {
      writeFileSync(setting, `${before + missing}\n`);
    } catch {
      return work(false); // not root, or a container that shows the setting read-only
    }
  }
  const giveBack = () => {
    if (missing > 0) writeFileSync(setting, `${before}\n`);
  };
  return withUndo(giveBack, () => work(meminfo('HugePages_Free') >= WANTED));
}

const CAP_SYS_RESOURCE = 24n;

/**
 * The tests expect to be root, of which CAP_SYS_RESOURCE is what they use, and a container's root often lacks it. A
 * user namespace of our own has every capability, as far as a process can see.
 * @returns {string[] | undefined} what to put before a command for it to have the capability; undefined: it cannot
 */
export function privilegedPrefix() {
  const mask = /^CapEff:\s*([0-9a-f]+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  if ((BigInt(`0x${mask ?? '0'}`) >> CAP_SYS_RESOURCE) & 1n) return [];
  const namespace = ['unshare', '--user', '--map-root-user'];
  const works = spawnSync('unshare', [...namespace.slice(1), 'true'], { stdio: 'ignore' });
  return works.status === 0 ? namespace : undefined;
}
