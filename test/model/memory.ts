// SPDX-License-Identifier: Apache-2.0
/** The model's memory: pages that are objects, address spaces and files that are maps of pages, accounts that are counts. */

export const PAGE = 4096;
/** Bytes of the unit that translations are compared in: the smallest page of the test driver. */
export const HALF = 2048;

/** A failed call, by the name of its errno. */
export class Refused extends Error {
  readonly code: string;
  /** What it answers all the same. */
  readonly out: Readonly<Record<string, unknown>>;

  constructor(code: string, out: Refused['out'] = {}) {
    super(code);
    this.code = code;
    this.out = out;
  }
}

export const refuse = (code: string, out?: Refused['out']): never => {
  throw new Refused(code, out);
};

/** Makes a page's first bytes and those of its second half unlike any other page's. */
export function tag(bytes: Uint8Array, serial: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, PAGE);
  view.setUint32(0, serial, true);
  view.setUint32(HALF, ~serial >>> 0, true);
}

/** One page of memory, whoever shows it: what it is is which object this is. */
export class Page {
  readonly serial: number;
  /** How many pages objects of iommufd pin it. */
  pins = 0;
  /** Its process was killed while it was pinned: it reads as ones. */
  lost = false;
  private bytes: Uint8Array | undefined = undefined;

  constructor(serial: number) {
    this.serial = serial;
  }

  read(offset: number, into: Uint8Array): void {
    if (this.lost) into.fill(0xff);
    else into.set(this.content().subarray(offset, offset + into.length));
  }

  write(offset: number, from: Uint8Array): void {
    if (!this.lost) this.content().set(from, offset);
  }

  /** A page of the same content. */
  copy(): Page {
    const copy = new Page(this.serial);
    copy.bytes = this.bytes?.slice();
    copy.lost = this.lost;
    return copy;
  }

  private content(): Uint8Array {
    if (!this.bytes) {
      this.bytes = new Uint8Array(PAGE);
      tag(this.bytes, this.serial);
    }
    return this.bytes;
  }
}

/** Gives out pages with serial numbers from 1. */
export class PageMaker {
  private next = 1;

  make(count: number): Page[] {
    return Array.from({ length: count }, () => new Page(this.next++));
  }
}

export interface File {
  readonly kind: 'file';
  readonly size: number;
  readonly pinnable: boolean;
  readonly pages: readonly Page[];
}

/** What an address shows. */
export interface Slot {
  readonly page: Page;
  readonly readable: boolean;
  readonly writable: boolean;
  /** Private memory dies with its process, a file does not. */
  readonly isPrivate: boolean;
}

/** An address space: page number to slot. */
export class Mm {
  readonly slots = new Map<number, Slot>();
  alive = true;
  locked = 0;
  pinned = 0;

  /** The page at a page number as a pin or a lookup finds it; undefined is EFAULT. */
  find(at: number, write: boolean): Page | undefined {
    const slot = this.slots.get(at);
    return slot && (write ? slot.writable : slot.readable) ? slot.page : undefined;
  }

  unmap(first: number, count: number): void {
    for (let at = first; at < first + count; at++) this.slots.delete(at);
  }

  protect(first: number, count: number, readable: boolean, writable: boolean): void {
    for (let at = first; at < first + count; at++) {
      const slot = this.slots.get(at);
      if (slot) this.slots.set(at, { ...slot, readable, writable });
    }
  }

  /** A child's: private pages are copied, those of files are the same. */
  fork(): Mm {
    const child = new Mm();
    for (const [at, slot] of this.slots)
      child.slots.set(at, slot.isPrivate ? { ...slot, page: slot.page.copy() } : slot);
    return child;
  }

  /** The end: `killed` leaves no time to save pinned pages. */
  end(killed: boolean): void {
    for (const { page, isPrivate } of this.slots.values()) {
      if (killed && isPrivate && page.pins > 0) page.lost = true;
    }
    this.slots.clear();
    this.alive = false;
  }

  /** Copies page by page until one refuses: false, with what came before done. */
  copy(address: bigint, bytes: Uint8Array, write: boolean): boolean {
    for (let done = 0; done < bytes.length;) {
      const at = address + BigInt(done);
      const offset = Number(at % BigInt(PAGE));
      const part = bytes.subarray(done, done + Math.min(PAGE - offset, bytes.length - done));
      const page = this.find(Number(at / BigInt(PAGE)), write);
      if (!page) return false;
      if (write) page.write(offset, part);
      else page.read(offset, part);
      done += part.length;
    }
    return true;
  }
}

export interface User {
  readonly uid: number;
  locked: number;
}

export type AccountMode = 'none' | 'user' | 'mm';

/** Who pays for pinned pages. */
export interface Payer {
  readonly mm: Mm;
  readonly user: User;
  /** RLIMIT_MEMLOCK in pages. */
  readonly memlock: number;
}

/** The count that the limit applies to; undefined where there is no limit. */
export function account(payer: Payer, mode: AccountMode): Mm | User | undefined {
  if (mode === 'none') return undefined;
  return mode === 'user' ? payer.user : payer.mm;
}

/** Adds to the counts of a payer, or takes away; no check. */
export function book(payer: Payer, mode: AccountMode, pages: number): void {
  const limited = account(payer, mode);
  if (limited) limited.locked += pages;
  payer.mm.pinned += pages;
}
