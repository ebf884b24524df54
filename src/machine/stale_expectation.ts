// SPDX-License-Identifier: Apache-2.0
/** What software is entitled to expect of an access, by the tables that are in force. */
import { walkAccess } from '../generic_pt/access.ts';
import { frameOfIova, iovaOfFrame } from '../generic_pt/iova.ts';
import { NO_PASID } from '../iommu/device.ts';
import { type Domain, DomainType, isSvaDomain } from '../iommu/domain.ts';
import { PtDomain } from '../iommu/pt_domain.ts';
import { FRAMES_PER_PAGE } from '../memory/frame.ts';
import type { Mm } from '../memory/mm.ts';
import type { FrameBytes } from '../memory/physical_memory.ts';
import type { Translated } from '../pci/dma.ts';
import { RequestMode } from '../pci/translator.ts';
import { allows, walkFirstStage } from './first_stage.ts';

export interface Expectation {
  /** Whether the access may be led to a frame; undefined: refused. */
  agrees(frame: number | undefined): boolean;
  /** `the tables have frame 0x5` */
  readonly text: string;
  /** Addresses of the second stage that it goes through, where there are two. */
  readonly below: readonly bigint[];
  /** Where it may end, in the tables that record writes: those of the second stage, where there are two. */
  readonly ends: readonly bigint[];
}

/** One frame is right; `undefined`: the access is to be refused. */
export const exactly = (
  { iova }: Translated,
  right: number | undefined,
  whose = 'the tables',
): Expectation => ({
  agrees: (frame) => frame === right,
  text: right === undefined ? `${whose} allow nothing` : `${whose} have frame ${hex(right)}`,
  below: [],
  ends: [iova],
});

export const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

/** Undefined where nothing is certain: a change is under way, or the tables are not ours to read. */
export function expectationOf(
  seen: Translated,
  domain: Domain | undefined,
  memory: FrameBytes,
  guest: { expectation: () => Expectation | undefined } | undefined,
): Expectation | undefined {
  const { device, iova, access } = seen;
  const { group } = device;
  if (!group || group.mutex.isLocked || isInterrupt(seen)) return undefined;
  if (!domain) return seen.pasid === NO_PASID ? undefined : exactly(seen, undefined);
  if (domain.type === DomainType.BLOCKED) return exactly(seen, undefined);
  if (domain.type === DomainType.IDENTITY) return exactly(seen, Math.floor(frameOfIova(iova)));
  if (guest) return guest.expectation();
  if (isSvaDomain(domain)) return ofProcess(domain.mm, seen, memory);
  if (!(domain instanceof PtDomain) || domain.isFlushing) return undefined;
  if (iova < domain.apertureStart || iova > domain.apertureLast) return exactly(seen, undefined);
  const found = walkAccess(domain.table, Math.floor(frameOfIova(iova)), access === 'write');
  return exactly(seen, typeof found === 'string' ? undefined : found.frame);
}

/** By the process's own tables; once it has exited, nothing. */
function ofProcess(
  { tables, alive }: Mm,
  seen: Translated,
  memory: FrameBytes,
): Expectation | undefined {
  if (!tables || tables.isChanging) return undefined;
  const { iova, access, mode } = seen;
  const whose = "the process's tables";
  if (!alive) return exactly(seen, undefined, whose);
  const read = (page: number, byte: number): bigint | undefined =>
    readRaw(memory, page * FRAMES_PER_PAGE, byte);
  const root = Number(tables.root >> 12n);
  const found = walkFirstStage(read, root, tables.levels, iova);
  if (!found || !allows(found.rights, access, mode, true)) return exactly(seen, undefined, whose);
  return exactly(seen, frameIn(found.page, iova), whose);
}

const bytes = new Uint8Array(8);
const view = new DataView(bytes.buffer);

/** 8 bytes of memory; undefined where there is none. */
export const readRaw = (memory: FrameBytes, frame: number, byte: number): bigint | undefined =>
  memory.read(frame, byte, bytes) ? view.getBigUint64(0, true) : undefined;

/** The frame with the byte of an address, in the page of 4 KiB that the address leads to. */
export const frameIn = (page: number, iova: bigint): number =>
  page * FRAMES_PER_PAGE + (Number(iova & 0xfffn) >= Number(iovaOfFrame(1)) ? 1 : 0);

/** A write to where x86 has interrupts is no DMA, unless it has a PASID. */
const isInterrupt = ({ access, iova, pasid, mode }: Translated): boolean =>
  access === 'write' &&
  pasid === NO_PASID &&
  (mode & RequestMode.PASID) === 0 &&
  iova >= 0xfee0_0000n &&
  iova <= 0xfeef_ffffn;
