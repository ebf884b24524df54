// SPDX-License-Identifier: Apache-2.0
/**
 * QEMU, unmodified, under `iommulator run`, passes the `edu` device through to a guest (vfio-pci), by iommufd or by VFIO's container and
 * group. The guest's firmware must enumerate it, and a read of its BAR through the guest's memory map must reach the device's register.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const LIMIT_MS = 120_000;
const DEVICE = '0000:00:02.0';

/** @typedef {{ args: string[], checks: [string, RegExp][], fails: RegExp }} Way */

/**
 * What QEMU is told, what its calls must show, and what they must not.
 * @type {Record<'iommufd' | 'container', Way>}
 */
export const ways = {
  iommufd: {
    args: ['-object', 'iommufd,id=i', '-device', `vfio-pci,host=${DEVICE},iommufd=i`],
    checks: [
      ['the device is bound to iommufd', /VFIO_DEVICE_BIND_IOMMUFD.*\) = 0$/m],
      ['and attached', /VFIO_DEVICE_ATTACH_IOMMUFD_PT.*\) = 0$/m],
      ["the guest's memory is mapped", /IOMMU_IOAS_MAP, .*length=0x8000000, iova=0.*\) = 0$/m],
    ],
    fails: /IOMMU_IOAS_(MAP|UNMAP)\b.*\) = -1/,
  },
  container: {
    args: ['-device', `vfio-pci,host=${DEVICE}`],
    checks: [
      ['the group has a container', /VFIO_GROUP_SET_CONTAINER.*\) = 0$/m],
      ['and gives the device', /VFIO_GROUP_GET_DEVICE_FD, "0000:00:02\.0"\) = \d+$/m],
      ["the guest's memory is mapped", /VFIO_IOMMU_MAP_DMA, .*iova=0, size=0x8000000.*\) = 0$/m],
    ],
    fails: /VFIO_IOMMU_(MAP|UNMAP)_DMA\b.*\) = -1/,
  },
};

/**
 * Prints each check; the result is whether all hold. Where one fails, the trace is kept and named.
 * @param {import('../../tools/qemu/qemu.mjs').Qemu} qemu  version 9 or newer
 * @param {Way} way
 */
export async function passthrough(qemu, way) {
  const folder = mkdtempSync(join(tmpdir(), 'iommulator-qemu-'));
  const firmwareLog = join(folder, 'firmware.log');
  const trace = join(folder, 'trace.txt');
  const args = [
    ...['-M', 'q35', '-m', '128', '-accel', 'tcg', '-nic', 'none', '-vga', 'none'],
    ...['-display', 'none', '-serial', 'none', '-monitor', 'stdio'],
    ...['-debugcon', `file:${firmwareLog}`, '-global', 'isa-debugcon.iobase=0x402'],
    ...way.args,
    '-nodefaults',
    ...qemu.args,
  ];
  const child = spawn(
    'bin/iommulator',
    ['run', '--strace', '-o', trace, '--', qemu.command, ...args],
    {
      cwd: root,
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  );
  let monitor = '';
  child.stdout.setEncoding('utf8').on('data', (/** @type {string} */ text) => (monitor += text));
  const exit = new Promise((resolve) => child.once('exit', resolve));
  const timer = setTimeout(() => child.kill(), LIMIT_MS);

  const read = (/** @type {string} */ file) => (existsSync(file) ? readFileSync(file, 'utf8') : '');
  /** Waits until `text()` matches, or QEMU has ended. */
  const until = async (/** @type {() => string} */ text, /** @type {RegExp} */ pattern) => {
    for (;;) {
      const found = pattern.exec(text());
      if (found || child.exitCode !== null || child.signalCode !== null) return found;
      await sleep(50);
    }
  };

  const firmware = () => read(firmwareLog);
  const enumerated = await until(firmware, /init bdf=\S+ id=1234:11e8/);
  const bar = await until(
    firmware,
    /map device bdf=00:0\S+\s+bar 0, addr ([0-9a-f]{8}), size 00100000/,
  );
  const done = await until(firmware, /No bootable device/);
  if (bar && done && !child.killed) child.stdin.write(`xp /1wx 0x${bar[1]}\n`);
  const register = done && (await until(() => monitor, /: 0x010000ed/));
  if (!child.killed) child.stdin.write('quit\n');
  const status = await exit;
  clearTimeout(timer);

  const calls = read(trace);
  /** @type {[string, boolean][]} */
  const checks = [
    ...way.checks.map(
      ([what, pattern]) => /** @type {[string, boolean]} */ ([what, pattern.test(calls)]),
    ),
    ['no map or unmap fails', !way.fails.test(calls)],
    ["the guest's firmware enumerates the device", enumerated !== null],
    ["its identification register is read through the guest's memory", register !== null],
    ['QEMU ends well', status === 0],
  ];
  for (const [what, holds] of checks) console.log(`${holds ? 'ok    ' : 'FAILED'} ${what}`);
  const isOk = checks.every(([, holds]) => holds);
  if (isOk) rmSync(folder, { recursive: true });
  else console.error(`calls: ${trace}\nfirmware: ${firmwareLog}\nmonitor: ${monitor}`);
  return isOk;
}
