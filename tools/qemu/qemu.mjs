// SPDX-License-Identifier: Apache-2.0
/**
 * Which QEMU the tests use: the one that is named (QEMU, with QEMU_ARGS before its other arguments), else the one in PATH where it can do
 * what is needed, else a private one of Debian's (private_qemu.mjs).
 */
import { spawn, spawnSync } from 'node:child_process';
import { Skip } from '../kernel/apt.mjs';
import { privateQemu } from './private_qemu.mjs';

export { Skip };

const name = 'qemu-system-x86_64';
/** The first version that has what the tests of VT-d drive: `iommu-testdev`, first stages, PASIDs. */
const needed = { major: 11, minor: 1 };
const PROBE_MS = 10_000;

/** @typedef {{ command: string, args: string[], version: string }} Qemu */

/** @param {string} command @returns {{ text: string, isNewEnough: boolean } | undefined} undefined where it does not run */
function versionOf(command) {
  const { stdout } = spawnSync(command, ['--version'], { encoding: 'utf8' });
  const found = /version ((\d+)\.(\d+)\S*)/.exec(stdout ?? '');
  if (!found) return undefined;
  const [major, minor] = [Number(found[2]), Number(found[3])];
  const isNewEnough = major > needed.major || (major === needed.major && minor >= needed.minor);
  return { text: found[1] ?? '', isNewEnough };
}

/**
 * Whether it has the qtest accelerator, which many builds leave out: it answers a command without a machine.
 * @param {string} command @param {readonly string[]} args
 */
async function hasQtest(command, args) {
  const probe = ['-accel', 'qtest', '-M', 'none', '-display', 'none', '-nodefaults'];
  const child = spawn(command, [...args, ...probe, '-qtest', 'stdio', '-qtest-log', '/dev/null'], {
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), PROBE_MS);
  let said = '';
  child.on('error', () => undefined);
  child.stdin.on('error', () => undefined);
  child.stdin.write('clock_step 1\n');
  await new Promise((resolve) => {
    child.stdout.setEncoding('utf8').on('data', (/** @type {string} */ text) => {
      said += text;
      if (said.includes('\n')) resolve(undefined);
    });
    child.on('close', resolve);
  });
  clearTimeout(timer);
  child.kill('SIGKILL');
  return said.startsWith('OK 1');
}

/** @param {string} command @param {readonly string[]} args @param {string} device */
const hasDevice = (command, args, device) =>
  spawnSync(command, [...args, '-device', `${device},help`], { stdio: 'ignore' }).status === 0;

/**
 * What it lacks, in words; undefined where it will do.
 * @param {string} command @param {readonly string[]} args @returns {Promise<string | undefined>}
 */
async function lackOf(command, args) {
  const version = versionOf(command);
  if (!version) return 'does not run';
  if (!version.isNewEnough)
    return `is version ${version.text}: ${needed.major}.${needed.minor} or newer is needed`;
  if (!(await hasQtest(command, args))) return 'has no qtest accelerator';
  for (const device of ['intel-iommu', 'edu', 'iommu-testdev'])
    if (!hasDevice(command, args, device)) return `has no device ${device}`;
  return undefined;
}

/**
 * A QEMU that can be driven without a guest. Throws {@link Skip} where none can be had, and Error where the one that is named will not do.
 * @returns {Promise<Qemu>}
 */
export async function findQemu() {
  const named = process.env['QEMU'];
  const args = (process.env['QEMU_ARGS'] ?? '').split(' ').filter(Boolean);
  const candidate = named ?? name;
  const lack = await lackOf(candidate, args);
  if (lack === undefined)
    return { command: candidate, args, version: versionOf(candidate)?.text ?? '' };
  if (named !== undefined) throw new Error(`QEMU=${named} ${lack}`);
  const command = await privateQemu();
  const lackOfPrivate = await lackOf(command, []);
  if (lackOfPrivate !== undefined) throw new Skip(`Debian's QEMU ${lackOfPrivate} (${command})`);
  return { command, args: [], version: versionOf(command)?.text ?? '' };
}

// `node tools/qemu/qemu.mjs` prints the command.
if (import.meta.filename === process.argv[1]) {
  try {
    const { command, version } = await findQemu();
    console.error(`QEMU ${version}`);
    console.log(command);
  } catch (error) {
    console.error(error instanceof Skip ? `skipped: ${error.message}` : String(error));
    process.exitCode = 1;
  }
}
