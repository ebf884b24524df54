// SPDX-License-Identifier: Apache-2.0
/**
 * `npm run bench`: latencies under `iommulator run`, beside the goals and beside a C supervisor with nothing behind it,
 * measured in the same minutes. It never fails for being slow.
 *
 *   npm run bench -- --quick      fewer repetitions, and up to 10^4 areas
 *   npm run bench -- --all        also the rows that have no goal
 *   npm run bench -- --json FILE  keeps the figures
 */
import { spawn, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { compileC } from '../tools/kernel/compile.mjs';
import { Skip, prepareKernel } from '../tools/kernel/fetch.mjs';
import { goals } from './goals.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const iommulator = join(here, '../bin/iommulator');
const runUnder = [iommulator, 'run', '--'];
/** Machines whose device faults. */
const FAULTING = ['page-faults', 'vtd-page-faults'];
/** Rows that have no goal and are worth seeing beside those that have. */
const COMPARED = [
  '(C supervisor, 64-byte ioctl)',
  ...FAULTING.map((machine) => `${machine}: doorbell to end of DMA`),
];
const uapi = join(here, '../examples/first_dma/uapi.h');

/** @typedef {{ count: number, min: number, p50: number, p99: number } | { missing: string }} Figure */

/** Figures by the name of their row. @type {Map<string, Figure>} */
const figures = new Map();

/** @param {string} name @param {number} value  a figure that is not a series */
const single = (name, value) => figures.set(name, { count: 1, min: value, p50: value, p99: value });

/** A row as the C programs print it. @param {string} line */
function parseRow(line) {
  const [name, count = '', second = '', p50, p99] = line.split('\t');
  if (name === undefined || count === '') return undefined;
  if (count === 'n/a') return { name, figure: /** @type {Figure} */ ({ missing: second }) };
  return {
    name,
    figure: /** @type {Figure} */ ({
      count: Number(count),
      min: Number(second),
      p50: Number(p50),
      p99: Number(p99),
    }),
  };
}

/**
 * Runs a program to its end and returns its rows.
 * @param {string[]} command
 */
function rowsOf([program = '', ...args]) {
  const done = spawnSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  if (done.status !== 0)
    console.error(
      `bench: ${[program, ...args].join(' ')} ended with ${done.signal ?? `status ${done.status}`}`,
    );
  return done.stdout.split('\n').flatMap((line) => parseRow(line) ?? []);
}

/** @param {number[]} values */
const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;

/**
 * The same client under both supervisors, in turns, so that what else the machine does falls on both.
 * @param {string} client
 * @param {string} supervisor
 * @param {number} rounds
 */
function measureFloor(client, supervisor, rounds) {
  /** @type {Figure} */
  let reason = { missing: 'it did not run' };
  const ours = [];
  const floors = [];
  for (let round = 0; round < rounds; round++) {
    const floor = rowsOf([supervisor, client, '-f', '/dev/null'])[0]?.figure;
    const own = rowsOf([...runUnder, client])[0]?.figure;
    if (own && 'p50' in own) ours.push(own);
    else if (own) reason = own;
    if (floor && 'p50' in floor) floors.push(floor.p50);
  }
  const middle = ours.toSorted((a, b) => a.p50 - b.p50)[Math.floor(ours.length / 2)];
  figures.set('64-byte ioctl', middle ?? reason);
  if (floors.length === 0) return;
  single('(C supervisor, 64-byte ioctl)', median(floors));
  if (middle) single('64-byte ioctl, times the C supervisor', middle.p50 / median(floors));
}

/** @param {number} rounds */
function measureTrue(rounds) {
  /** @type {number[]} */
  const bare = [];
  /** @type {number[]} */
  const under = [];
  for (let round = 0; round < rounds; round++) {
    for (const [command, times] of /** @type {[string[], number[]][]} */ ([
      [['/bin/true'], bare],
      [[...runUnder, '/bin/true'], under],
    ])) {
      const start = performance.now();
      const { status } = spawnSync(command[0] ?? '', command.slice(1), {
        stdio: ['ignore', 'ignore', 'inherit'],
      });
      if (status !== 0) {
        figures.set('run -- /bin/true adds', { missing: `${command.join(' ')}: status ${status}` });
        return;
      }
      times.push(performance.now() - start);
    }
  }
  single('run -- /bin/true adds', median(under) - median(bare));
}

/** Resident memory of a process in bytes. @param {number} pid */
function residentBytes(pid) {
  return (
    1024 * Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? NaN)
  );
}

/** @param {string} program @param {number} max */
async function measureAreas(program, max) {
  const args = [...runUnder.slice(1), program, '-w', '-m', String(max)];
  const child = spawn(iommulator, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => child.once('close', resolve));
  child.stdin.on('error', () => {}); // it ended early, which its rows tell
  /** @type {{ areas: number, bytes: number }[]} */
  const memory = [];
  for await (const line of createInterface({ input: child.stdout })) {
    const row = parseRow(line);
    if (row === undefined) continue;
    figures.set(row.name, row.figure);
    const areas = /^IOAS_UNMAP with (\d+) areas$/.exec(row.name)?.[1];
    if (areas === undefined || child.pid === undefined) continue;
    memory.push({ areas: Number(areas), bytes: residentBytes(child.pid) });
    child.stdin.write('\n');
  }
  await ended;
  const [before, after] = memory.slice(-2);
  // Below that the garbage of the run is more than the areas.
  if (before && after && after.areas >= 100_000)
    single('memory per area', (after.bytes - before.bytes) / (after.areas - before.areas));
  else figures.set('memory per area', { missing: 'needs 10^5 areas or more' });
}

/** @param {number} value */
const shown = (value) =>
  value >= 1000 ? value.toFixed(0) : value >= 100 ? value.toFixed(1) : value.toFixed(2);

/** @param {string} name @param {Figure | undefined} figure @param {import('./goals.mjs').Goal} [goal] */
function printRow(name, figure, goal) {
  const wanted =
    goal === undefined ? '' : `<= ${goal.goal}${goal.unit === undefined ? '' : ` ${goal.unit}`}`;
  if (figure === undefined || 'missing' in figure) {
    console.log(
      `${name.padEnd(44)} ${'n/a'.padStart(9)} ${''.padStart(9)}  ${wanted.padEnd(11)} ${figure?.missing ?? ''}`,
    );
    return;
  }
  const p99 = figure.count > 1 ? shown(figure.p99) : '';
  const mark =
    goal === undefined
      ? ''
      : figure.p50 <= goal.goal
        ? 'ok'
        : `slower (${(figure.p50 / goal.goal).toFixed(1)} times)`;
  console.log(
    `${name.padEnd(44)} ${shown(figure.p50).padStart(9)} ${p99.padStart(9)}  ${wanted.padEnd(11)} ${mark}`,
  );
}

const USAGE = `usage: npm run bench [-- OPTIONS]

Measures what an unmodified program pays, beside the goals, and then the engine in process. On a quiet machine: five minutes.

  --quick       fewer rounds, and nothing with a million areas
  --all         rows without a goal too
  --json FILE   writes all figures, in microseconds`;

function options() {
  try {
    const { values } = parseArgs({
      options: {
        quick: { type: 'boolean', default: false },
        all: { type: 'boolean', default: false },
        json: { type: 'string' },
        help: { type: 'boolean', default: false, short: 'h' },
      },
    });
    if (!values.help) return values;
    console.log(USAGE);
    process.exit(0);
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`);
    process.exit(2);
  }
}

/** @param {ReturnType<typeof options>} values */
async function main(values) {
  const kernel = await prepareKernel();
  const headers = ['-static', ...kernel.includes.flatMap((folder) => ['-isystem', folder])];
  const shared = ['bench.h', 'vfio.h'].map((file) => join(here, file));
  const build = (/** @type {string} */ name) =>
    compileC(name, [join(here, `${name}.c`), ...shared, uapi], {
      compile: headers,
      key: kernel.release,
    });

  const progress = (/** @type {string} */ what) => console.error(`measuring ${what} ...`);
  progress('a 64-byte ioctl, under run and under the C supervisor');
  measureFloor(build('ioctl64'), build('c_supervisor'), values.quick ? 1 : 5);
  progress('/bin/true');
  measureTrue(values.quick ? 5 : 15);
  progress('ioctls');
  for (const { name, figure } of rowsOf([
    ...runUnder,
    build('iommufd_bench'),
    ...(values.quick ? ['-n', '10'] : []),
  ]))
    figures.set(name, figure);
  progress('a device');
  for (const { name, figure } of rowsOf([...runUnder, build('edu')])) figures.set(name, figure);
  progress('a device that faults');
  const pageRequest = build('page_request');
  for (const machine of FAULTING) {
    const command = [iommulator, 'run', '--machine', machine, '--', pageRequest, `${machine}: `];
    for (const { name, figure } of rowsOf(command)) figures.set(name, figure);
  }
  progress('calls with many areas');
  await measureAreas(build('areas'), values.quick ? 10_000 : 1_000_000);

  const noDevice = figures.get('mock device: create, bind, attach');
  const reason =
    noDevice && 'missing' in noDevice
      ? { missing: `no mock device: ${noDevice.missing}` }
      : undefined;
  console.log(`\n${'microseconds'.padEnd(44)} ${'p50'.padStart(9)} ${'p99'.padStart(9)}  goal`);
  const tooMany = values.quick ? { missing: 'left out by --quick' } : undefined;
  for (const goal of goals) {
    const unmeasured = goal.name.endsWith('areas')
      ? tooMany
      : /^edu |page-faults: /.test(goal.name)
        ? undefined
        : reason;
    printRow(goal.name, figures.get(goal.name) ?? unmeasured, goal);
  }
  const others = [...figures].filter(([name]) => !goals.some((goal) => goal.name === name));
  if (values.all) {
    console.log('\nwithout a goal');
    for (const [name, figure] of others) printRow(name, figure);
  } else for (const name of COMPARED) printRow(name, figures.get(name));
  if (values.json !== undefined)
    writeFileSync(values.json, `${JSON.stringify(Object.fromEntries(figures), null, 1)}\n`);
}

/** Page tables, the hardware, its driver and the core have goals of their own and need no program to serve. */
function measureInProcess() {
  console.log('\nin process');
  for (const name of ['generic_pt', 'hw_vtd', 'intel', 'faults']) {
    spawnSync(process.execPath, ['--expose-gc', join(here, `${name}.bench.mjs`)], {
      stdio: 'inherit',
    });
  }
}

const asked = options();
try {
  await main(asked);
  measureInProcess();
} catch (error) {
  if (!(error instanceof Skip)) throw error;
  console.log(`skipped: ${error.message}`);
}
