// SPDX-License-Identifier: Apache-2.0
import type { Device } from './device.ts';
import {
  DomainType,
  type Domain,
  type DomainCookie,
  type DomainType as Type,
  type SealOptions,
} from './domain.ts';
import type { FaultHandler } from './fault.ts';
import type { IommuOps } from './ops.ts';

/** What every domain has; drivers derive theirs from it and add what the form (paging, nested, SVA) asks for. */
export abstract class BaseDomain<T extends Type> implements Domain {
  cookie: DomainCookie = { kind: 'none' };
  #type: T;
  #owner: IommuOps | undefined = undefined;
  #faultHandler: FaultHandler | undefined = undefined;

  constructor(type: T) {
    this.#type = type;
  }

  get type(): T {
    return this.#type;
  }

  get owner(): IommuOps | undefined {
    return this.#owner;
  }

  get faultHandler(): FaultHandler | undefined {
    return this.#faultHandler;
  }

  seal(owner: IommuOps, options: SealOptions = {}): void {
    if (this.#owner) {
      throw new Error(
        `this domain of ${this.#owner.name} is sealed: its fault handler is for good`,
      );
    }
    this.#owner = owner;
    this.#faultHandler = options.faultHandler;
    if (options.type !== undefined) this.#type = options.type as T;
  }

  abstract attachDev(device: Device, old: Domain | undefined): number;
  abstract setDevPasid?(device: Device, pasid: number, old: Domain | undefined): number;

  /** A driver's one blocked or identity domain has nothing to free. */
  free(): void {}
}

export const isBlocked = (domain: Domain): boolean => domain.type === DomainType.BLOCKED;
