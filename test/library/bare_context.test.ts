// SPDX-License-Identifier: Apache-2.0
import { fileURLToPath } from 'node:url';
import vm from 'node:vm';
import { rolldown } from 'rolldown';
import { beforeAll, describe, expect, it } from 'vitest';

/** One session as a user of the library would write it; it runs where there is nothing but the language. */
const SESSION = `
const { Machine, LocalClient, ErrnoError } = library;
const machine = new Machine();
const client = new LocalClient(machine.iommufd);
const memory = client.process.mm.map(0x100000n, 0x10000);
const ioas = client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
const map = (iova) =>
  client.call('IOMMU_IOAS_MAP', { flags: 7, ioas_id: ioas, user_va: 0x100000n, length: 0x1000n, iova }).iova;
const log = ['mapped at ' + map(0x1000n)];
try {
  map(0x1800n);
} catch (error) {
  log.push(error instanceof ErrnoError ? error.code + ': ' + error.message : String(error));
}
log.push('globals: ' + ['process', 'Buffer', 'require', 'console', 'setTimeout'].filter((name) => name in globalThis));
client.close();
log.push(machine.iommufd.contexts.length + ' contexts and ' + machine.memory.pinCount + ' pins left');
log.join('\\n');
`;

let bundle: string;

beforeAll(async () => {
  const input = fileURLToPath(new URL('../../src/index.ts', import.meta.url));
  const build = await rolldown({ input, platform: 'neutral' });
  const { output } = await build.generate({ format: 'iife', name: 'library' });
  bundle = output[0].code;
}, 30_000);

describe('the library', () => {
  it('runs a session in a bare context without the globals of Node', () => {
    const context = vm.createContext(Object.create(null) as object);
    vm.runInContext('delete globalThis.console', context); // V8's own, there in every context
    vm.runInContext(bundle, context);
    const log = vm.runInContext(SESSION, context) as string;
    expect(log.split('\n')).toEqual([
      'mapped at 4096',
      'EEXIST: [0x1800, 0x27ff] meets the map at [0x1000, 0x1fff]',
      'globals: ',
      '0 contexts and 0 pins left',
    ]);
  });
});
