// SPDX-License-Identifier: Apache-2.0
/** Every source file names its licence at the top, after an interpreter line where it has one. */
import { readFileSync } from 'node:fs';
import { sourceFiles } from './files.mjs';

const line = /^(?:\/\/|#) SPDX-License-Identifier: Apache-2\.0$/;

/** @returns {string[]} problems */
export function spdxProblems() {
  return sourceFiles(/\.(ts|mjs|cjs|js|c|h|py|sh)$|^(\.ci\/run|bin\/[^/]+)$/).flatMap((file) => {
    const [first = '', second = ''] = readFileSync(file, 'utf8').split('\n', 2);
    return line.test(first.startsWith('#!') ? second : first)
      ? []
      : [`${file}: the first line must be: SPDX-License-Identifier: Apache-2.0 (as a comment)`];
  });
}
