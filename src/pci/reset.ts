// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../base/errno.ts';
import { command, CONFIG } from './header.ts';
import type { PciFunction } from './function.ts';

/**
 * Resets a function and puts its config space back, as an operating system does: base addresses, Command, messages and what
 * else is writable are as before, the device is as new. 0, or -ENOTTY where it cannot be reset. Counterpart of Linux's `pci_reset_function()`.
 */
export function resetFunction(fn: PciFunction): number {
  if (!fn.canReset) return -Errno.ENOTTY;
  const saved = fn.config.save();
  const table = fn.msix?.saveTable();
  // Quiet first: nothing of the old life may come in the middle.
  const quiet = command.fields.InterruptDisable.setLo(0, 1);
  fn.config.write(CONFIG.Command, 2, quiet);
  fn.reset();
  if (table) fn.msix?.restoreTable(table);
  fn.config.restore(saved);
  fn.update();
  return 0;
}
