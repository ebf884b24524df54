// SPDX-License-Identifier: Apache-2.0
import type { DeviceFile, IoctlResult } from '../src/kernel/file.ts';
import type { Injected } from './fault_injection.ts';

/** One read or write of bytes of a file, after it was answered. */
export interface Access {
  /** As the program called it: `pread64`. */
  readonly name: string;
  readonly write: boolean;
  /** The byte of the file at which it began. */
  readonly offset: bigint;
  /** Bytes that were asked for. */
  readonly count: number;
  /** Those that moved, of which there may be none. */
  readonly bytes: Uint8Array;
  /** What the call returned: bytes, or `-errno`. */
  readonly result: number;
  /** Why it failed; empty where it did not. */
  readonly why: string;
}

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
  /** A read or write of a file that can be read and written. `bytes` of the access are only good for the moment. */
  accessed?(pid: number, fd: number, file: DeviceFile, access: Access, micros: number): void;
  /** The engine signals an eventfd that the process had handed over as descriptor `fd`. */
  signalled?(pid: number, fd: number): void;
  /** A failure that was asked for has happened, in the call that is told of next. */
  injected?(event: Injected): void;
  /** The last descriptor of a file was closed. */
  closed?(file: DeviceFile): void;
  /** Anything else on our descriptors (mmap, dup, read), and warnings. */
  other?(pid: number, text: string): void;
}
