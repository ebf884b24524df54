// SPDX-License-Identifier: Apache-2.0
import type { DeviceFile, IoctlResult } from '../src/kernel/file.ts';

/** Hears what clients do with our devices. Called while the client waits: be quick, and do not throw. */
export interface Observer {
  /** An open of a device node: the descriptor, or `-errno` with the sentence that explains it. */
  opened?(
    pid: number,
    path: string,
    result: number,
    file: DeviceFile | undefined,
    why: string,
  ): void;
  /** An ioctl, after it was answered by the engine and before the client goes on. */
  called?(
    pid: number,
    fd: number,
    file: DeviceFile,
    cmd: number,
    arg: bigint,
    result: IoctlResult,
    micros: number,
  ): void;
  /** The last descriptor of a file was closed. */
  closed?(file: DeviceFile): void;
  /** Anything else on our descriptors (mmap, dup, read), and warnings. */
  other?(pid: number, text: string): void;
}
