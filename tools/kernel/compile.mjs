// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { basename, join } from 'node:path';
import { Skip, cacheFolder } from './fetch.mjs';

/**
 * Compiles a C program once: the result is kept in the cache under a digest of everything that it was made from.
 * @param {string} name  of the program
 * @param {readonly string[]} sources  the files that its text consists of; the first is compiled
 * @param {{ compile?: readonly string[], link?: readonly string[], key?: string }} [options]  key: what else it depends on
 * @returns {string} the program's path
 */
export function compileC(name, sources, { compile = [], link = [], key = '' } = {}) {
  const source = sources[0] ?? '';
  const version = spawnSync('gcc', ['--version'], { encoding: 'utf8' });
  if (version.status !== 0)
    throw new Skip('gcc is missing; install it with: apt-get install gcc libc6-dev');
  const hash = createHash('sha256').update(JSON.stringify([version.stdout, compile, link, key]));
  for (const file of sources) hash.update(`${basename(file)}\0`).update(readFileSync(file));
  const folder = join(cacheFolder(), 'programs', hash.digest('hex').slice(0, 16));
  const program = join(folder, name);
  if (existsSync(program)) return program;
  mkdirSync(folder, { recursive: true });
  const unfinished = `${program}.${process.pid}`;
  execFileSync('gcc', ['-O2', '-Wall', ...compile, '-o', unfinished, source, ...link], {
    stdio: 'inherit',
  });
  renameSync(unfinished, program);
  return program;
}
