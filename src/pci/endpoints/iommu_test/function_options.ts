// SPDX-License-Identifier: Apache-2.0
import type { DeviceOptions } from '../../../iommu/device.ts';
import type { PciAddress } from '../../address.ts';
import type { GroupResponseMessage, InvalidateRequest } from '../../ats_messages.ts';
import type { FunctionOptions, PciFunction } from '../../function.ts';
import type { PasidOptions } from '../../pasid.ts';
import { Feature, VF_DEVICE_ID } from './registers.ts';

export interface IommuTestOptions {
  readonly address: PciAddress;
  /** Bits of DMA addresses of edu's registers, as `edu` has them. */
  readonly dmaBits?: number;
  /** It has ATS. Default true. */
  readonly ats?: boolean;
  /** Page requests outstanding at most; 0: it has no PRI. 32 unless told. Of no meaning for a virtual function. */
  readonly pageRequests?: number;
  /** Bits of a PASID; 0: it has none. 20 unless told. Of no meaning for a virtual function. */
  readonly pasidBits?: number;
  /** With PASIDs it can ask to execute, and as privileged. Default true. */
  readonly execute?: boolean;
  /** Virtual functions that it can have, 0 to 7; 0 unless told. */
  readonly totalVfs?: number;
  /** Access Control Services: bits of `Acs`; absent: it has none. */
  readonly acs?: number;
  readonly multifunction?: boolean;
  /** It is a virtual function of this one. */
  readonly physical?: { readonly function: PciFunction };
  readonly device?: DeviceOptions;
}

/** What the device is told by its function. */
export interface FunctionEvents {
  readonly onInvalidate: (request: InvalidateRequest) => void;
  /** ATS was turned off. */
  readonly onDisable: () => void;
  readonly onGroupResponse: (message: GroupResponseMessage) => void;
  readonly onPageRequestsForgotten: () => void;
}

/** What the function has. */
export function functionOptions(
  options: IommuTestOptions,
  { onInvalidate, onDisable, ...others }: FunctionEvents,
): Partial<FunctionOptions> {
  const { ats = true, pageRequests = 32, pasidBits = 20, physical } = options;
  const { execute = true, totalVfs = 0, acs, multifunction = false } = options;
  const pasid: PasidOptions = { width: pasidBits, execute, privileged: execute };
  return {
    multifunction,
    ...(acs !== undefined && { acs }),
    ...(ats && { ats: { onInvalidate, onDisable } }),
    ...(!physical && pageRequests > 0 && { pri: { capacity: pageRequests } }),
    ...(!physical && pasidBits > 0 && { pasid }),
    ...(!physical && totalVfs > 0 && { sriov: { totalVfs, deviceId: VF_DEVICE_ID } }),
    ...(physical && { physicalFunction: physical.function }),
    ...others,
  };
}

/** What the IOMMU's core is told of it: a virtual function has the PASIDs of its physical one. */
export function deviceOptions({
  device,
  physical,
  pasidBits = 20,
  execute = true,
}: IommuTestOptions): DeviceOptions {
  const pasid = physical ? physical.function.pasid : { width: pasidBits, execute };
  if (!pasid?.width) return { ...device };
  const modes = { pasidExecute: pasid.execute, pasidPrivileged: pasid.execute };
  return { ...device, pasidBits: pasid.width, ...modes };
}

/** The features register. */
export function featuresOf({ ats, pageRequests, pasids, physicalFunction }: PciFunction): number {
  return (
    (ats ? Feature.ATS : 0) |
    (pageRequests ? Feature.PRI : 0) |
    (pasids ? Feature.PASID : 0) |
    (pasids?.execute ? Feature.EXECUTE : 0) |
    (pasids?.privileged ? Feature.PRIVILEGED : 0) |
    (physicalFunction ? Feature.VIRTUAL : 0)
  );
}
