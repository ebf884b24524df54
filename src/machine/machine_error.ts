// SPDX-License-Identifier: Apache-2.0

/** A machine that cannot be made as it is described: the sentence is for whoever described it. */
export class MachineError extends RangeError {
  override readonly name = 'MachineError';
}
