// SPDX-License-Identifier: Apache-2.0
export type { Device, Served, Timers } from './device.ts';
export { type FileTree, TreeBuilder, type TreeNode } from './file_tree.ts';
export { HostError } from './host_error.ts';
export { INHERITED_VARIABLE } from './inherited.ts';
export type { Access, Observer } from './observer.ts';
export { ProcessFileMemory } from './process_file_memory.ts';
export { ProcessMm } from './process_mm.ts';
export { type RunOptions, type RunResult, run } from './run.ts';
export type { Stats } from './supervisor.ts';
