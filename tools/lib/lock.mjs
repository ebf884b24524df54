// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { withUndo } from './on_exit.mjs';

/** @param {number} pid */
function alive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM';
  }
}

/** True where this process now holds the lock. A lock whose holder has died is taken away. @param {string} path */
function tryLock(path) {
  try {
    writeFileSync(path, `${process.pid}\n`, { flag: 'wx' });
    return true;
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error;
  }
  let holder;
  try {
    holder = Number(readFileSync(path, 'utf8'));
  } catch {
    return false; // released between the two steps: the next try sees it
  }
  // An empty file is one that its maker has not filled in yet.
  if (holder > 0 && !alive(holder)) rmSync(path, { force: true });
  return false;
}

/**
 * Runs `work` while no other process is inside a `withLock` of the same path; says once that it waits.
 * @template T
 * @param {string} path  a file that exists while the lock is held
 * @param {string} what  for the message: "another build"
 * @param {() => T | Promise<T>} work
 * @returns {Promise<T>}
 */
export async function withLock(path, what, work) {
  mkdirSync(dirname(path), { recursive: true });
  for (let tries = 1; !tryLock(path); tries++) {
    if (tries === 5) process.stderr.write(`waiting for ${what} to finish (${path})\n`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return withUndo(() => rmSync(path, { force: true }), work);
}
