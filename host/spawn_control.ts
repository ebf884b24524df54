// SPDX-License-Identifier: Apache-2.0

/** Words that the main thread and the spawning thread share (Int32Array indices). */
export const Control = {
  /** 1 once `listener` is set. */
  ready: 0,
  /** The listener's descriptor, or `-errno` of seccomp(2). */
  listener: 1,
  /** Set to 1 by the main thread: it listens now. */
  go: 2,
  /** The program's pid, or `-errno` of posix_spawn; 0 while unknown. */
  spawned: 3,
  /** The spawning thread's id. */
  thread: 4,
} as const;
