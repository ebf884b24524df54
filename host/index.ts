// SPDX-License-Identifier: Apache-2.0
export type { Device } from './device.ts';
export { HostError } from './host_error.ts';
export { INHERITED_VARIABLE } from './inherited.ts';
export type { Observer } from './observer.ts';
export { ProcessFileMemory } from './process_file_memory.ts';
export { ProcessMm } from './process_mm.ts';
export { type RunOptions, type RunResult, run } from './run.ts';
export type { Stats, Timers } from './supervisor.ts';
