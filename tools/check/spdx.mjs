// SPDX-License-Identifier: Apache-2.0
/** Every source file names its licence at the top, after the lines that its interpreter needs. */
import { readFileSync } from 'node:fs';
import { sourceFiles } from './files.mjs';

const line = /^(?:\/\/|#) SPDX-License-Identifier: Apache-2\.0$/;

/** @returns {string[]} problems */
export function spdxProblems() {
  return sourceFiles(/\.(ts|mjs|cjs|js|c|h|py|sh)$|^(\.ci\/run|bin\/[^/]+)$/).flatMap((file) => {
    const lines = readFileSync(file, 'utf8').split('\n', 3);
    const top = lines[0]?.startsWith('#!') ? lines : lines.slice(0, 1);
    return top.some((text) => line.test(text))
      ? []
      : [`${file}: the first line must be: SPDX-License-Identifier: Apache-2.0 (as a comment)`];
  });
}
