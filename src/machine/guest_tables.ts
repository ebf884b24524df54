// SPDX-License-Identifier: Apache-2.0
import {
  type Domain,
  type GuestWatcher,
  isNestedDomain,
  type NestedDomain,
} from '../iommu/domain.ts';
import type { IommuGroup } from '../iommu/group.ts';
import { PtDomain } from '../iommu/pt_domain.ts';
import type { FrameBytes } from '../memory/physical_memory.ts';
import { guestRequests } from './guest_requests.ts';
import { type GuestRequest, GuestTranslations } from './guest_translations.ts';

/** Told of what a guest was told is forgotten. */
type OnForgotten = (domain: NestedDomain, requests: readonly GuestRequest[]) => void;

/** The guests' tables in force, and what hardware may have kept of each. What is attached nowhere is kept nowhere. */
export class GuestTables implements GuestWatcher {
  readonly #memory: FrameBytes;
  readonly #onForgotten: OnForgotten;
  readonly #byDomain = new Map<NestedDomain, GuestTranslations>();
  /** Where what is attached, by PASID. */
  readonly #places = new Map<IommuGroup, Map<number, NestedDomain>>();
  /** Groups that made requests while something was being attached. */
  readonly #unsure = new Set<IommuGroup>();

  constructor(memory: FrameBytes, onForgotten: OnForgotten) {
    this.#memory = memory;
    this.#onForgotten = onForgotten;
  }

  /** Undefined where it is none, or nothing is known of it. */
  of(domain: Domain | undefined): GuestTranslations | undefined {
    return domain && isNestedDomain(domain) ? this.#byDomain.get(domain) : undefined;
  }

  /** A second stage has been flushed, from byte `from` to `to`. */
  changedBelow(parent: PtDomain, from: bigint, to: bigint): void {
    for (const guest of this.#byDomain.values()) {
      if (guest.parent === parent) guest.lostBelow(Number(from >> 12n), Number(to >> 12n));
    }
  }

  /** A group has made a request. While its domain changes, that may have gone through the next one. */
  requested(group: IommuGroup): void {
    if (group.mutex.isLocked) this.#unsure.add(group);
    else this.#unsure.delete(group);
  }

  /** Another domain is in force; nothing of the one before is kept there. */
  attached(group: IommuGroup, pasid: number, domain: Domain | undefined): void {
    const places = this.#places.get(group) ?? new Map<number, NestedDomain>();
    this.#places.set(group, places);
    const before = places.get(pasid);
    if (before === domain) return;
    if (before) this.#leave(before);
    places.delete(pasid);
    const guest = domain && isNestedDomain(domain) ? this.#enter(domain) : undefined;
    if (guest && domain && isNestedDomain(domain)) {
      places.set(pasid, domain);
      if (this.#unsure.has(group)) guest.missed();
    }
  }

  invalidating(domain: NestedDomain, type: number): (entries: readonly Uint8Array[]) => void {
    const forget = this.of(domain)?.invalidating();
    return (entries) => {
      const requests = guestRequests(type, entries);
      forget?.(requests);
      if (requests.length > 0) this.#onForgotten(domain, requests);
    };
  }

  #enter(domain: NestedDomain): GuestTranslations | undefined {
    const { guestTable } = domain;
    if (!guestTable || !(guestTable.parent instanceof PtDomain)) return undefined;
    const { parent } = guestTable;
    const known = this.#byDomain.get(domain);
    const guest = known ?? new GuestTranslations(guestTable, parent, this.#memory);
    this.#byDomain.set(domain, guest);
    guest.places++;
    return guest;
  }

  #leave(domain: NestedDomain): void {
    const guest = this.#byDomain.get(domain);
    if (guest && --guest.places === 0) this.#byDomain.delete(domain);
  }
}
