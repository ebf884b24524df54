// SPDX-License-Identifier: Apache-2.0
/**
 * `npm run test:model [-- SEQUENCES]`: the long run. 10,000 sequences of 100 calls, seeds 1 to 10,000, every tenth with each of its
 * fault points failing once, in as many processes as there are cores (at most 4). A sequence in which engine and model differ is
 * shrunk, printed, and saved for `node test/model/replay.mjs FILE`.
 */
import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { bundle } from './bundle.mjs';

const LENGTH = 100;
const FAULT_EVERY = 10;
const asked = process.argv[2] ?? '10000';
const sequences = Number(asked);
if (!Number.isInteger(sequences) || sequences < 1) {
  console.error(`the number of sequences is ${asked}: it must be an integer above 0`);
  process.exit(2);
}

const failures = fileURLToPath(new URL('../../.cache/model', import.meta.url));
const start = performance.now();
const seconds = () => ((performance.now() - start) / 1000).toFixed(0);
const { folder, file } = await bundle();
const shards = Math.min(availableParallelism(), 4, sequences);
const done = Array.from({ length: shards }, () => 0);
const total = { sequences: 0, steps: 0, faults: 0, emptyTables: 0 };
/** @type {Map<string, number>} */
const outcomes = new Map();
let failed = 0;
let shown = 0;

/** @param {number} shard @param {string} line */
function hear(shard, line) {
  const message = JSON.parse(line);
  if (message.kind === 'progress') {
    done[shard] = message.done;
    const sum = done.reduce((a, b) => a + b, 0);
    if (sum - shown >= sequences / 20) {
      shown = sum;
      console.log(`${sum} of ${sequences} sequences, ${seconds()} s`);
    }
  } else if (message.kind === 'failure') {
    failed++;
    console.log(`\n${message.what}\nreplay it: node test/model/replay.mjs ${message.file}\n`);
  } else {
    for (const key of /** @type {(keyof typeof total)[]} */ (Object.keys(total)))
      total[key] += message[key];
    for (const [key, count] of Object.entries(message.outcomes))
      outcomes.set(key, (outcomes.get(key) ?? 0) + count);
  }
}

/** Runs its part of the seeds in a process; the result is whether it ended as it should. @param {number} shard */
function run(shard) {
  const from = 1 + Math.floor((sequences * shard) / shards);
  const to = 1 + Math.floor((sequences * (shard + 1)) / shards);
  const args = ['--enable-source-maps', file, 'run', from, to, LENGTH, FAULT_EVERY, failures].map(
    String,
  );
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  createInterface({ input: child.stdout }).on('line', (line) => hear(shard, line));
  return new Promise((resolve) => child.on('close', (code) => resolve(code === 0)));
}

const ended = await Promise.all(done.map((_, shard) => run(shard)));
rmSync(folder, { recursive: true, force: true });
const kinds = [...outcomes].filter(([key]) => !key.endsWith(' SKIP'));
const succeeded = kinds
  .filter(([key]) => key.endsWith(' OK'))
  .reduce((sum, [, count]) => sum + count, 0);
console.log(
  `${total.sequences} sequences, ${total.steps} calls (${succeeded} succeeded; ${kinds.length} different outcomes), ` +
    `${total.faults} fault points failed, ${seconds()} s in ${shards} processes`,
);
console.log(
  `failed calls after which a domain had other empty tables than before: ${total.emptyTables}`,
);
if (failed > 0 || ended.includes(false)) {
  console.error(
    failed > 0
      ? `engine and model differ in ${failed} sequences: see above`
      : 'a process ended early: see above',
  );
  process.exitCode = 1;
} else {
  console.log('the model agrees');
}
