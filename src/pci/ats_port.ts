// SPDX-License-Identifier: Apache-2.0
import { type Device, NO_PASID } from '../iommu/device.ts';
import type { AtsCapability } from './ats.ts';
import type {
  GroupResponseMessage,
  InvalidateCompletion,
  PageRequestMessage,
  PasidPrefix,
  TranslationCompletion,
  TranslationRequest,
} from './ats_messages.ts';
import { PAGE_REQUEST_GROUPS, PageRequestRefusal, type PriCapability } from './pri.ts';
import type { DmaPath } from './dma.ts';
import { RequestMode } from './translator.ts';

/** A function, as its port needs it. */
interface Owner {
  readonly bdf: string;
  readonly device: Device;
  readonly requesterId: number;
  readonly isBusMaster: boolean;
  readonly ats: AtsCapability | undefined;
  readonly pageRequests: PriCapability | undefined;
  allowsPasid(pasid: number, mode: number): boolean;
}

type AtsPath = Pick<DmaPath, 'translator' | 'observer' | 'witness'>;

/** Why a message is not sent. */
export const AtsRefusal = {
  ...PageRequestRefusal,
  BUS_MASTER_OFF: 'bus mastering is off',
  ATS_OFF: 'ATS is off',
  PASID_OFF: 'requests with this PASID are off',
  NO_IOMMU: 'no IOMMU takes such messages',
  BAD_MESSAGE: 'no such message can be',
} as const;
export type AtsRefusal = (typeof AtsRefusal)[keyof typeof AtsRefusal];

/**
 * What a function sends to its IOMMU beside DMA. The model asks; what config space does not allow stays here. Bus Master Enable is for
 * requests to memory, as translation requests are; page requests and completions are messages (the specification: unverified).
 */
export class AtsPort {
  readonly #owner: Owner;
  readonly #path: AtsPath;

  constructor(owner: Owner, path: AtsPath) {
    this.#owner = owner;
    this.#path = path;
  }

  /** Asks for a translation; or why it did not. */
  requestTranslation(request: TranslationRequest): TranslationCompletion | AtsRefusal {
    const { ats, device } = this.#owner;
    if (ats?.enabled !== true) return AtsRefusal.ATS_OFF;
    if (!this.#owner.isBusMaster) return AtsRefusal.BUS_MASTER_OFF;
    const refusal = this.#common(request.pasid, request.iova);
    if (refusal) return refusal;
    const answer = this.#path.translator.ats?.requestTranslation(device, request);
    this.#path.witness?.asked(device, request.pasid?.value ?? NO_PASID, request.iova);
    return answer ?? { status: 'UNSUPPORTED_REQUEST' };
  }

  /** Says that invalidations are done. Nothing where ATS is off: nobody waits then. */
  completeInvalidation(completion: InvalidateCompletion): void {
    const { ats, device } = this.#owner;
    if (ats?.enabled) this.#path.translator.ats?.invalidateCompletion(device, completion);
  }

  /** Sends a page request, or a stop marker; undefined, or why it did not. */
  pageRequest(message: PageRequestMessage): AtsRefusal | undefined {
    const { bdf, device } = this.#owner;
    const refusal = this.#refusalOf(message);
    this.#path.observer()?.pageRequest?.(bdf, message, refusal);
    if (!refusal) this.#path.translator.ats?.pageRequest(device, message);
    return refusal;
  }

  /** The answer to a group has come, which `isExpected` or not. */
  answered(message: GroupResponseMessage, isExpected: boolean): void {
    this.#path.observer()?.groupResponse?.(this.#owner.bdf, message, isExpected);
  }

  #refusalOf(message: PageRequestMessage): AtsRefusal | undefined {
    const { pageRequests, requesterId } = this.#owner;
    if (!pageRequests) return AtsRefusal.DISABLED;
    if (!this.#path.translator.ats) return AtsRefusal.NO_IOMMU;
    if (!(message.group >= 0 && message.group < PAGE_REQUEST_GROUPS)) return AtsRefusal.BAD_MESSAGE;
    return this.#common(message.pasid, message.address) ?? pageRequests.admit(requesterId, message);
  }

  #common(pasid: PasidPrefix | undefined, address: bigint): AtsRefusal | undefined {
    if (address < 0n || address >= 2n ** 64n || address % 4096n !== 0n)
      return AtsRefusal.BAD_MESSAGE;
    if (pasid && !this.#owner.allowsPasid(pasid.value, modeOf(pasid))) return AtsRefusal.PASID_OFF;
    return undefined;
  }
}

/** A prefix as bits of {@link RequestMode}. */
export const modeOf = ({ execute, privileged }: PasidPrefix): number =>
  RequestMode.PASID |
  (execute ? RequestMode.EXECUTE : 0) |
  (privileged ? RequestMode.PRIVILEGED : 0);
