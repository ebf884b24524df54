// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['{src,host,cli,test,tools}/**/*.test.ts'],
    exclude: ['node_modules', 'dist'],
    setupFiles: ['test/setup.ts'],
    // All processors: by default one is left free, which on two of them is half.
    maxWorkers: '100%',
    // A limit for what hangs: how fast the machine is does not matter.
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
});
