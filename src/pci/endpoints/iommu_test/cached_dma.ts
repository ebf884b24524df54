// SPDX-License-Identifier: Apache-2.0
import { FRAME_SIZE } from '../../../memory/frame.ts';
import type { Body } from '../../../sim/task.ts';
import type { CachedTranslation } from '../../atc.ts';
import { ATS_PAGE, decodeEntry } from '../../ats_entry.ts';
import type { PasidPrefix } from '../../ats_messages.ts';
import { DmaCause } from '../../dma.ts';
import type { DmaAccess } from '../../translator.ts';
import { type Job, type Outcome, pageOf } from './job.ts';
import { State } from './registers.ts';
import type { TestDevice } from './test_device.ts';

/** DMA by translated addresses, out of the function's own cache. */
export class CachedDma {
  /** The last entry that ATS gave, as it came. */
  lastEntry = 0n;
  readonly #device: TestDevice;

  constructor(device: TestDevice) {
    this.#device = device;
  }

  /** Asks for the translation of an address and keeps it. */
  ask(address: bigint, access: DmaAccess, pasid: PasidPrefix | undefined): Outcome {
    const request = { pasid, iova: pageOf(address), noWrite: access === 'read' };
    const answer = this.#device.function.atsPort.requestTranslation(request);
    if (typeof answer === 'string') return { state: State.OFF, at: address };
    if (answer.status !== 'SUCCESS') return { state: State.REFUSED, at: address };
    this.lastEntry = answer.entry;
    const entry = decodeEntry(answer.entry);
    this.#device.atc.insert(pasid?.value, address, entry);
    const isAllowed = access === 'read' ? entry.read : entry.write;
    const isExecuted = !pasid?.execute || access === 'write' || entry.execute;
    return { state: isAllowed && isExecuted ? State.DONE : State.NOT_PRESENT, at: address };
  }

  /** Pages of the job that there is no access to: what a page request has to ask for. Undefined: asking is not possible. */
  missing(job: Job, access: DmaAccess): readonly bigint[] | Outcome {
    const pages: bigint[] = [];
    for (const page of pagesOf(job)) {
      if (this.#find(job, page, access)) continue;
      const found = this.ask(page, access, job.pasid);
      if (found.state === State.NOT_PRESENT) pages.push(page);
      else if (found.state !== State.DONE) return found;
    }
    return pages;
  }

  /**
   * Moves the bytes of a job, all or none: looks up and asks first, then, steps later, uses what it found. What it uses is marked, so
   * that an invalidation waits for it.
   */
  *move(job: Job, access: DmaAccess, isAlive: () => boolean): Body<Outcome> {
    const used: CachedTranslation[] = [];
    try {
      for (const page of pagesOf(job)) {
        const found = this.#find(job, page, access) ?? this.#fetch(job, page, access);
        if ('state' in found) return { ...found, at: atLeast(found.at, job.address) };
        found.uses++;
        used.push(found);
      }
      yield 'translated';
      if (!isAlive()) return { state: State.OFF, at: job.address };
      return this.#transfer(job, access, used);
    } finally {
      for (const one of used) one.uses--;
    }
  }

  #fetch(job: Job, page: bigint, access: DmaAccess): CachedTranslation | Outcome {
    const found = this.ask(page, access, job.pasid);
    if (found.state !== State.DONE) return found;
    return this.#find(job, page, access) ?? { state: State.NOT_PRESENT, at: page };
  }

  #find(job: Job, page: bigint, access: DmaAccess): CachedTranslation | undefined {
    const execute = access === 'read' && job.pasid?.execute === true;
    return this.#device.atc.find(job.pasid?.value, page, access, execute);
  }

  #transfer(job: Job, access: DmaAccess, used: readonly CachedTranslation[]): Outcome {
    let done = 0;
    for (const { iova, entry } of used) {
      const at = job.address + BigInt(done);
      const end = pageOf(at) + ATS_PAGE;
      const bytes = Math.min(job.length - done, Number(end - at));
      const physical = entry.start + (at - iova.start);
      const where = {
        frame: Number(physical / BigInt(FRAME_SIZE)),
        offset: Number(physical % BigInt(FRAME_SIZE)),
      };
      const part = this.#device.edu.dma.buffer.subarray(
        job.offset + done,
        job.offset + done + bytes,
      );
      const pasid = job.pasid?.value ?? 0;
      const fault = this.#device.function.dma.translated(access, where, part, { iova: at, pasid });
      if (fault) {
        const isOff = fault.cause === DmaCause.BUS_MASTER_OFF;
        return { state: isOff ? State.OFF : State.REFUSED, at };
      }
      done += bytes;
    }
    return { state: State.DONE, at: job.address };
  }
}

function* pagesOf({ address, length }: Job): Iterable<bigint> {
  const last = address + BigInt(length) - 1n;
  for (let page = pageOf(address); page <= last; page += ATS_PAGE) yield page;
}

const atLeast = (a: bigint, b: bigint): bigint => (a > b ? a : b);
