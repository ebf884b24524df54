// SPDX-License-Identifier: Apache-2.0

/** What must be undone, whatever ends this process. @type {Set<() => void>} */
const pending = new Set();

let installed = false;

function install() {
  installed = true;
  process.on('exit', () => {
    for (const undo of pending) undo();
  });
  process.on('SIGINT', () => process.exit(130));
  process.on('SIGTERM', () => process.exit(143));
}

/**
 * Runs `work`, then `undo`: also where the work throws, and where a signal or an exit ends the process before it is done.
 * @template T
 * @param {() => void} undo  synchronous, and harmless where there is nothing to undo
 * @param {() => T | Promise<T>} work
 * @returns {Promise<T>}
 */
export async function withUndo(undo, work) {
  if (!installed) install();
  pending.add(undo);
  try {
    return await work();
  } finally {
    pending.delete(undo);
    undo();
  }
}
