// SPDX-License-Identifier: Apache-2.0
import { readFileSync, writeFileSync } from 'node:fs';

const setting = '/proc/sys/vm/nr_hugepages';

/** What the kernel's tests ask for at once, in pages of 2 MiB, with some to spare. */
const WANTED = 64;

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
  let changed = false;
  if (missing > 0) {
    try {
      writeFileSync(setting, `${before + missing}\n`);
      changed = true;
    } catch {
      // not root, or a container that shows the setting read-only
    }
  }
  try {
    return await work(meminfo('HugePages_Free') >= WANTED);
  } finally {
    if (changed) writeFileSync(setting, `${before}\n`);
  }
}
