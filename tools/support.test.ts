// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ioctlOps, vfioOps } from '../src/iommufd/ioctls.ts';
import { groupOps } from '../src/vfio/group_ioctls.ts';
import { deviceOps } from '../src/vfio/ioctls.ts';
import { testOps } from '../src/iommufd/selftest.ts';
import { supportText } from './support_text.mjs';

describe('docs/support.md', () => {
  it('says what the ioctl tables say (else run "npm run build && node tools/support.mjs")', () => {
    const page = readFileSync(new URL('../docs/support.md', import.meta.url), 'utf8');
    expect(page).toBe(supportText({ ioctlOps, vfioOps, deviceOps, groupOps, testOps }));
  });

  it('counts what works, and gives every ioctl a row', () => {
    const base = { number: 0x3b80, note: '' };
    const text = supportText({
      ioctlOps: [
        { ...base, name: 'A', status: 'done' },
        { ...base, name: 'B', status: 'partial', note: 'half' },
        { ...base, name: 'C', status: 'absent', note: 'later' },
      ],
      vfioOps: [{ ...base, name: 'D', status: 'done' }],
      deviceOps: [{ ...base, name: 'H', status: 'absent', note: 'not yet' }],
      groupOps: [{ ...base, name: 'I', status: 'done' }],
      testOps: [
        { name: 'E', run: undefined, note: 'needs F' },
        { name: 'G', run: () => 0, note: '' },
      ],
    });
    expect(text).toContain('\n1 of 3, and 1 in part.\n');
    expect(text).toContain('\n| `A` | 0x3b80 | yes | |\n| `B` | 0x3b80 | in part | half |\n');
    expect(text).toContain('\n| `C` | 0x3b80 | no | later |\n');
    expect(text).toContain('\n| `H` | 0x3b80 | no | not yet |\n');
    expect(text).toContain('\n| `I` | 0x3b80 | yes | |\n');
    expect(text).toContain('\n| `E` | no | needs F |\n| `G` | yes | |\n');
  });
});
