// SPDX-License-Identifier: Apache-2.0
/**
 * A citation of a specification is a key with a revision and a section: `VTD-4.1 §6.2.1`. Keys are defined once, in
 * docs/specs.md, as code: a line that has `VTD-4.1` between backquotes.
 */
import { existsSync, readFileSync } from 'node:fs';
import { sourceFiles } from './files.mjs';

const citation = /(?<![\w-])([A-Z][A-Z0-9]*(?:-[A-Za-z0-9.]+)+),? §/g;

/** @param {string} specs  the text of docs/specs.md @returns {Set<string>} */
export function definedKeys(specs) {
  return new Set(
    [...specs.matchAll(/`([A-Z][A-Z0-9]*(?:-[A-Za-z0-9.]+)+)`/g)].map((match) => match[1] ?? ''),
  );
}

/** @param {string} text @returns {string[]} the keys that a text cites */
export function citedKeys(text) {
  return [...text.matchAll(citation)].map((match) => match[1] ?? '');
}

/** @returns {string[]} problems */
export function citationProblems() {
  const defined = definedKeys(
    existsSync('docs/specs.md') ? readFileSync('docs/specs.md', 'utf8') : '',
  );
  return sourceFiles(/\.(ts|mjs|c|md|yaml)$/).flatMap((file) =>
    citedKeys(readFileSync(file, 'utf8'))
      .filter((key) => !defined.has(key))
      .map((key) => `${file}: cites ${key}, which docs/specs.md does not define`),
  );
}
