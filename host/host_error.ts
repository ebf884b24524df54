// SPDX-License-Identifier: Apache-2.0

/** Our own failure, not the program's: one sentence that says what is missing and what to do. The CLI exits with 125. */
export class HostError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'HostError';
  }
}
