// SPDX-License-Identifier: Apache-2.0
/** What the driver turns on and off in a PCI function; `pci/` has such capabilities. */

/** Address Translation Services: a cache of translations of its own. */
export interface AtsControl {
  /** Invalidations that it takes at once, 1 to 32. */
  readonly queueDepth: number;
  enable(on: boolean): void;
}

/** Requests with PASIDs; how many bits those have, `Device.pasidBits` says. */
export interface PasidControl {
  enable(on: boolean): void;
}

/** The Page Request Interface. */
export interface PriControl {
  /** Responses carry the PASID of their requests. */
  readonly pasidRequired: boolean;
  /** Forgets what is outstanding; without effect while it is on. */
  reset(): void;
  /** On, with so many requests outstanding at most; false where it can not be. */
  enable(requests: number): boolean;
  disable(): void;
}

/** The capabilities that a function has, and that are of use behind its unit. */
export interface DeviceFunction {
  readonly ats?: AtsControl | undefined;
  readonly pasid?: PasidControl | undefined;
  readonly pri?: PriControl | undefined;
}
