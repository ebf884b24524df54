// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { citedKeys, definedKeys } from './citations.mjs';
import { importProblem } from './floors.mjs';

describe('floors', () => {
  test.each([
    ['src/iommufd/ioas.ts', './area.ts'],
    ['src/iommufd/ioas.ts', '../memory/mm.ts'],
    ['src/kernel/file.ts', '../abi/struct.ts'],
    ['src/index.ts', './iommufd/context.ts'],
    ['src/machine/build.ts', '../hw/vtd/model.ts'],
    ['src/drivers/mock/domain.ts', '../../iommu/domain.ts'],
    ['src/base/u64.test.ts', 'vitest'],
    ['host/libc.ts', 'koffi'],
    ['host/libc.ts', '../src/index.ts'],
    ['cli/main.ts', '../host/run.ts'],
    ['tools/prepare.mjs', 'node:fs'],
  ])('%s may import %s', (file, specifier) => {
    expect(importProblem(file, specifier)).toBeUndefined();
  });

  test.each([
    ['src/memory/pin.ts', '../iommufd/ioas.ts', 'a floor below'],
    ['src/base/bits.ts', '../abi/ioctl.ts', 'a floor below'],
    ['src/hw/vtd/walk.ts', '../../generic_pt/walk.ts', 'only machine/'],
    ['src/hw/vtd/walk.ts', '../../drivers/intel/iommu.ts', 'a floor below'],
    ['src/drivers/intel/iommu.ts', '../../hw/vtd/model.ts', 'only machine/'],
    ['src/vfio/cdev.ts', '../drivers/mock/domain.ts', 'only machine/'],
    ['src/iommufd/ioas.ts', '../index.ts', 'src/index.ts'],
    ['src/iommufd/ioas.ts', '../newfloor/x.ts', 'not in the list'],
    ['src/iommufd/ioas.ts', 'node:fs', 'without Node'],
    ['src/iommufd/ioas.ts', 'koffi', 'without Node'],
    ['src/iommufd/ioas.ts', '../../host/run.ts', 'nothing from outside'],
    ['src/iommufd/ioas.ts', './area.js', 'extension'],
    ['src/iommufd/ioas.ts', './area.test.ts', 'test file'],
    ['host/run.ts', '../cli/main.ts', 'may not import'],
    ['cli/main.ts', 'koffi', 'only host/'],
  ])('%s may not import %s', (file, specifier, why) => {
    expect(importProblem(file, specifier)).toContain(why);
  });
});

describe('the linter with our rules', () => {
  const root = fileURLToPath(new URL('../..', import.meta.url));

  /** What our rules say about a source, as `line: rule`. */
  function lint(source: string): string[] {
    const folder = mkdtempSync(join(tmpdir(), 'iommulator-lint-'));
    try {
      writeFileSync(join(folder, 'source.ts'), source);
      const rules = { 'iommulator/frame-number-bits': 'error', 'iommulator/names': 'error' };
      const plugin = join(root, 'tools/check/oxlint_plugin.mjs');
      writeFileSync(
        join(folder, 'lint.json'),
        JSON.stringify({ jsPlugins: [plugin], categories: {}, rules }),
      );
      const command = join(root, 'node_modules/.bin/oxlint');
      const args = ['-c', join(folder, 'lint.json'), '-f', 'unix', '-A', 'correctness', folder];
      const { stdout } = spawnSync(command, args, { encoding: 'utf8' });
      return [...stdout.matchAll(/source\.ts:(\d+):.*iommulator\(([\w-]+)\)/g)].map(
        (m) => `${m[1]}: ${m[2]}`,
      );
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  test('refuses 32-bit operators on frame numbers and addresses, and nothing else', () => {
    const refused = [
      'pfn >>> 9',
      'pfn & 511',
      '511 & pfn',
      'area.startPfn << 1',
      'iova | 1',
      'this.baseAddress ^ x',
    ];
    expect(lint(`${refused.join(';\n')};\npfn >>= 3;\n`)).toEqual(
      [...refused, 'pfn >>= 3'].map((_, i) => `${i + 1}: frame-number-bits`),
    );
    const allowed = [
      'pfn % 512',
      'iova & 0xfffn',
      'iova >> 12n',
      'pfnLo >>> 3',
      '1 << pfnBits',
      'pfn || 0',
      'BigInt(x) & iova',
    ];
    expect(lint(`${allowed.join(';\n')};\n`)).toEqual([]);
    expect(
      lint('const SHIFT = 12n;\nconst f = (iova: bigint) => iova >> SHIFT;\niova >> SHIFT;\n'),
    ).toEqual([]);
    expect(lint('const f = (iova: number, by: number) => iova >> by;\n')).toEqual([
      '1: frame-number-bits',
    ]);
  });

  test('refuses names with underscores', () => {
    expect(
      lint(
        'const user_va = 1;\nfunction map_pages() {}\nconst USER_VA = 2;\nconst { out_id } = x;\n',
      ),
    ).toEqual(['1: names', '2: names']);
  });
});

describe('citations', () => {
  test('are a key, a revision and a section', () => {
    expect(citedKeys('see VTD-4.1 §6.2.1 and SMMU-F.b §5.2, not RFC-2 or A-Z')).toEqual([
      'VTD-4.1',
      'SMMU-F.b',
    ]);
  });

  test('are defined as code', () => {
    expect(definedKeys('| `VTD-4.1` | Intel | not VTD-4.0')).toEqual(new Set(['VTD-4.1']));
  });
});
