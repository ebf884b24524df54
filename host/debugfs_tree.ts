// SPDX-License-Identifier: Apache-2.0
import type { TreeBuilder } from './file_tree.ts';

const ROOT = '/sys/kernel/debug';

/** What each kind of fault has, with the kernel's defaults. Source: Linux lib/fault-inject.c, `fault_create_debugfs_attr()`. */
const COMMON = {
  probability: '0',
  interval: '1',
  times: '1',
  space: '0',
  verbose: '2',
  verbose_ratelimit_interval_ms: '0',
  verbose_ratelimit_burst: '10',
  'task-filter': 'N',
} as const;

/** Kinds of a kernel with fault injection that iommufd's calls can meet, and what they have besides. */
const KINDS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  failslab: { 'ignore-gfp-wait': 'Y', 'cache-filter': 'N' },
  fail_page_alloc: { 'ignore-gfp-wait': 'Y', 'ignore-gfp-highmem': 'Y', 'min-order': '1' },
  fail_usercopy: {},
  fail_iommufd: {},
};

/**
 * The settings of fault injection in debugfs. They keep what is written, and choose nothing: which fault point fails is asked for by
 * fail-nth, and our points do not depend on how memory would be allocated.
 */
export function addFaultSettings(builder: TreeBuilder): void {
  for (const [kind, own] of Object.entries(KINDS)) {
    builder.directory(`${ROOT}/${kind}`);
    for (const [name, value] of Object.entries({ ...COMMON, ...own }))
      builder.setting(`${ROOT}/${kind}/${name}`, `${value}\n`);
  }
}

/** The tables of a device behind an IOMMU of Intel's. Source: Linux drivers/iommu/intel/debugfs.c. */
export function addTranslationStruct(
  builder: TreeBuilder,
  bdf: string,
  content: () => string,
): void {
  const folder = `${ROOT}/iommu/intel/${bdf}`;
  builder.directory(`${ROOT}/iommu`);
  builder.directory(`${ROOT}/iommu/intel`);
  builder.directory(folder);
  builder.file(`${folder}/domain_translation_struct`, content);
}
