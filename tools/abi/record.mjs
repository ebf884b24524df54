#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
/**
 * Records what a C compiler makes of the kernel's headers: sizes, offsets, constants and ioctl numbers, into
 * test/golden/abi.json, which `src/abi/abi.test.ts` holds the tables against.
 *
 *   node tools/abi/record.mjs            writes test/golden/abi.json
 *   node tools/abi/record.mjs --check    compares instead: exit 1 where the recording is out of date
 *
 * Needs gcc and the kernel's source package, which it fetches as `npm run test:kernel` does.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Skip, prepareKernel } from '../kernel/fetch.mjs';
import { declaredNames, probeProgram } from './header.mjs';

const golden = fileURLToPath(new URL('../../test/golden/abi.json', import.meta.url));

/** What `/dev/iommu` and PCI devices answer of VFIO, and groups; other kinds of devices and migration are left out. */
const vfioStructs =
  /^vfio_(group_status|info_cap_header|iova_range|bitmap|iommu_type1_\w+|device_(info|info_cap_pci_\w+|bind_iommufd|attach_iommufd_pt|detach_iommufd_pt|ioeventfd|feature|low_power_entry_with_wakeup)|region_info|irq_\w+|pci_\w+)$/;
const vfioConstants = [
  /^VFIO_(API_VERSION|TYPE|BASE|GET_API_VERSION|CHECK_EXTENSION|SET_IOMMU|EEH|UNMAP_ALL|UPDATE_VADDR|(DMA|IOMMU)_(?!SPAPR)\w+)$/,
  /^(__)?VFIO_\w+_IOMMU$/,
  /^VFIO_GROUP_(GET_STATUS|FLAGS_\w+|(UN)?SET_CONTAINER|GET_DEVICE_FD)$/,
  /^VFIO_DEVICE_(FLAGS|INFO_CAP|BIND|ATTACH|DETACH|IOEVENTFD)(_\w+)?$/,
  /^VFIO_DEVICE_(GET_(INFO|REGION_INFO|IRQ_INFO|PCI_HOT_RESET_INFO)|SET_IRQS|RESET|PCI_HOT_RESET)$/,
  /^VFIO_DEVICE_FEATURE(?!_(CLEAR|SET)_MASTER)(_\w+)?$/,
  /^VFIO_(REGION_INFO|IRQ_INFO|IRQ_SET|PCI)_\w+$/,
];

/** @type {{ include: string, structs?: RegExp, constants?: readonly RegExp[] }[]} */
const headers = [
  { include: 'linux/iommufd.h' },
  { include: 'linux/vfio.h', structs: vfioStructs, constants: vfioConstants },
  { include: 'iommufd_test.h' },
];

/** @param {import('../kernel/fetch.mjs').Kernel} kernel */
function record(kernel) {
  const work = mkdtempSync(join(tmpdir(), 'iommulator-abi-'));
  try {
    const flags = kernel.includes.flatMap((folder) => ['-I', folder]);
    /** @type {Record<string, unknown>} */
    const recorded = {};
    for (const { include, structs, constants } of headers) {
      const source = join(work, 'probe.c');
      writeFileSync(source, `#include <${include}>\n`);
      const preprocessed = execFileSync('gcc', ['-E', ...flags, source], { encoding: 'utf8' });
      const path = /** @type {string} */ (
        [...preprocessed.matchAll(/^# \d+ "([^"]*)"/gm)]
          .map((m) => m[1])
          .find((f) => f?.endsWith(include))
      );
      const names = declaredNames(preprocessed, readFileSync(path, 'utf8'), include);
      if (structs)
        for (const name of names.structs.keys())
          if (!structs.test(name)) names.structs.delete(name);
      if (constants)
        names.constants = names.constants.filter((name) => constants.some((one) => one.test(name)));
      writeFileSync(source, probeProgram([include], names));
      execFileSync('gcc', [...flags, '-o', join(work, 'probe'), source], { stdio: 'inherit' });
      recorded[include] = JSON.parse(execFileSync(join(work, 'probe'), { encoding: 'utf8' }));
    }
    return { kernel: kernel.release, headers: recorded };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/**
 * One structure or constant a line, so that a change reads well in a diff.
 * @param {unknown} value
 * @returns {string}
 */
function format(value, depth = 0) {
  if (depth >= 4 || typeof value !== 'object' || value === null) return JSON.stringify(value);
  const pad = '  '.repeat(depth + 1);
  const entries = Object.entries(value).map(
    ([key, item]) => `${pad}${JSON.stringify(key)}: ${format(item, depth + 1)}`,
  );
  return `{\n${entries.join(',\n')}\n${'  '.repeat(depth)}}`;
}

try {
  const text = `${format(record(await prepareKernel()))}\n`;
  if (!process.argv.includes('--check')) {
    writeFileSync(golden, text);
    console.log(`wrote test/golden/abi.json`);
  } else if (readFileSync(golden, 'utf8') === text)
    console.log('test/golden/abi.json is up to date');
  else {
    console.error('test/golden/abi.json differs from the headers; run: node tools/abi/record.mjs');
    process.exitCode = 1;
  }
} catch (error) {
  if (!(error instanceof Skip)) throw error;
  console.log(`skipped: ${error.message}`);
}
