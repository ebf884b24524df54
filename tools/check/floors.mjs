// SPDX-License-Identifier: Apache-2.0
/**
 * Who may import whom, as data. The reasons are in docs/architecture.md; `npm run check` applies it through the
 * linter (rule `iommulator/floors`), so that an editor shows it too.
 */
import { posix } from 'node:path';

/** The floors of src/: a file imports from its own folder and from folders before it in this list. */
export const floors = [
  'base',
  'abi',
  'sim',
  'memory',
  'kernel',
  'generic_pt',
  'iommu',
  'iommufd',
  'pci',
  'hw',
  'drivers',
  'vfio',
  'machine',
];

/**
 * What the order alone would allow. A model of hardware and the driver for it are two readings of one specification
 * that check each other, and only who puts a machine together knows which belong together.
 * @type {Readonly<Record<string, readonly string[]>>}
 */
export const forbidden = {
  hw: ['generic_pt', 'iommu', 'iommufd'],
  drivers: ['hw'],
  vfio: ['hw', 'drivers'],
};

/** Folders beside src/, and which of each other they may import; all of them may import src/. */
export const outside = /** @type {Readonly<Record<string, readonly string[]>>} */ ({
  host: [],
  conformance: [],
  cli: ['host', 'conformance', 'web'],
  web: ['host'],
});

/** Packages that belong to one folder. */
export const packageHomes = /** @type {Readonly<Record<string, string>>} */ ({
  koffi: 'host',
  commander: 'cli',
});

/** @param {string} path  from the top of the repository, with slashes */
const isTest = (path) => path.endsWith('.test.ts');

/** @param {string} path @returns {string | undefined} the floor of a file of src/, '' for src/index.ts */
function floorOf(path) {
  const [top, folder, rest] = path.split('/');
  if (top !== 'src') return undefined;
  return rest === undefined ? '' : folder;
}

/**
 * What is wrong with an import, or undefined.
 * @param {string} file  the importing file, from the top of the repository, with slashes
 * @param {string} specifier  as written
 * @returns {string | undefined}
 */
export function importProblem(file, specifier) {
  const top = file.split('/')[0] ?? '';
  const governed = top === 'src' || top in outside;
  if (!governed || isTest(file)) return undefined;
  if (!specifier.startsWith('.')) return packageProblem(top, specifier);
  if (!/\.(ts|mjs|json)$/.test(specifier))
    return `write the file's own extension: '${specifier}' does not end in .ts`;
  const target = posix.join(posix.dirname(file), specifier);
  if (isTest(target)) return 'a test file is not there to be imported';
  return top === 'src' ? srcProblem(file, target) : outsideProblem(top, target);
}

/** @param {string} top @param {string} specifier */
function packageProblem(top, specifier) {
  if (top === 'src')
    return `src/ runs without Node and without packages: '${specifier}' is not available there`;
  const name = specifier.startsWith('@') ? specifier : (specifier.split('/')[0] ?? specifier);
  const home = packageHomes[name];
  return home !== undefined && home !== top ? `only ${home}/ uses the package ${name}` : undefined;
}

/** @param {string} file @param {string} target */
function srcProblem(file, target) {
  const from = floorOf(file);
  const to = floorOf(target);
  if (to === undefined) return `src/ imports nothing from outside itself: ${target}`;
  if (from === undefined || from === '' || from === to) return undefined;
  if (to === '') return 'src/index.ts is for users of the library; import the file that has it';
  const [fromFloor, toFloor] = [floors.indexOf(from), floors.indexOf(to)];
  if (fromFloor < 0) return `src/${from}/ is not in the list of floors (tools/check/floors.mjs)`;
  if (toFloor < 0) return `src/${to}/ is not in the list of floors (tools/check/floors.mjs)`;
  if (toFloor > fromFloor)
    return `src/${from}/ may not import src/${to}/, which is a floor below it`;
  if (forbidden[from]?.includes(to))
    return `src/${from}/ may not import src/${to}/: only machine/ knows both`;
  return undefined;
}

/** @param {string} top @param {string} target */
function outsideProblem(top, target) {
  const to = target.split('/')[0] ?? '';
  if (to === 'src' || to === top || outside[top]?.includes(to)) return undefined;
  return `${top}/ may not import ${target}`;
}
