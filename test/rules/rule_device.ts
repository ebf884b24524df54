// SPDX-License-Identifier: Apache-2.0
import type { Device } from '../../src/iommu/device.ts';

/** Where each address space of a rig has its page: in the aperture of all hardware. */
export const IOVA = 0x200_0000n;

/** In bytes. */
export const PAGE = 0x1000;

/** What became of a group of page requests; `off`: the device may not ask. */
export type Answer = 'none' | 'SUCCESS' | 'INVALID' | 'FAILURE' | 'off';

export interface Asking {
  /** 0, unless told: requests without. */
  readonly pasid?: number;
  /** So many pages behind `IOVA`; 0 unless told. */
  readonly page?: number;
  /** The group is complete with it. Default true. */
  readonly last?: boolean;
  /** 128 bits that the hardware wants back: with the last of a group, on a rig that has it. */
  readonly privateData?: bigint;
}

/** A device that a client has, on any hardware. Calls throw ErrnoError as the ioctls fail. `pasid` 0: requests without. */
export interface RuleDevice {
  readonly core: Device;
  /** The number of its object in the client's file. */
  readonly id: number;
  /** Attaches to an IOAS or a table, or replaces what is attached; the number of the table. */
  attach(table: number, pasid?: number): number;
  detach(pasid?: number): void;
  /** The client lets go of it. */
  close(): void;
  /** A DMA: the first byte at an address, or undefined where it was refused. */
  read(pasid?: number, iova?: bigint): number | undefined;
  /** The same for a DMA that writes one byte; false: refused. */
  write(byte: number, pasid?: number, iova?: bigint): boolean;
  /** Sends a request for a page, to be read. Groups are 0 to 14. */
  ask(group: number, asking?: Asking): void;
  /** Of the last whole request of the group, when everything that is under way is done. */
  answer(group: number): Answer;
  /** How many answers it got. */
  answers(): number;
  /** The private data of the last answer; 0 where it had none. */
  answeredData(): bigint;
}
