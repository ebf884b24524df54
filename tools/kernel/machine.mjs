// SPDX-License-Identifier: Apache-2.0
/** What the kernel's tests need of the machine: huge pages. */
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
