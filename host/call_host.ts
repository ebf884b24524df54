// SPDX-License-Identifier: Apache-2.0
import type { TaskHost } from './client_task.ts';
import type { Device } from './device.ts';
import type { FaultInjection } from './fault_injection.ts';
import type { Mappings } from './mappings.ts';
import type { MemoryTransfer } from './memory_transfer.ts';
import type { Observer } from './observer.ts';
import type { PrivateTree } from './private_tree.ts';

/** What the handlers of system calls share. */
export interface CallHost extends TaskHost {
  readonly transfer: MemoryTransfer;
  readonly mappings: Mappings;
  readonly devices: readonly Device[];
  readonly observer: Observer;
  readonly injection: FaultInjection;
  /** Files beside the host's, where the machine has any. */
  readonly tree: PrivateTree | undefined;
  /** Uid and gid that own the device nodes. */
  readonly owner: { readonly uid: number; readonly gid: number };
}

/** Answers one stopped call: exactly one of the notification's replies. */
export type Handler = () => void;
/** By system call number. */
export type Handlers = (Handler | undefined)[];
