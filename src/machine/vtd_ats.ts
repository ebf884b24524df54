// SPDX-License-Identifier: Apache-2.0
/** ATS and PRI between functions and a VT-d unit: messages by requester id, each way. */
import { Access, NO_PASID } from '../hw/vtd/access.ts';
import type { VtdUnit } from '../hw/vtd/vtd_unit.ts';
import type { Device } from '../iommu/device.ts';
import { FRAME_SIZE } from '../memory/frame.ts';
import type {
  AtsTranslator,
  InvalidateCompletion,
  InvalidateRequest,
  PageRequestMessage,
  TranslatedRequest,
  TranslationCompletion,
  TranslationRequest,
} from '../pci/ats_messages.ts';
import type { PciFunction } from '../pci/function.ts';

/** Frames in 4 GiB. */
const HIGH = 2 ** 32 / FRAME_SIZE;

export class VtdAts implements AtsTranslator {
  readonly #model: VtdUnit;
  readonly #requesters: ReadonlyMap<Device, number>;
  readonly #functions = new Map<number, PciFunction>();

  /** `requesters`: the functions behind the unit, with their requester ids. */
  constructor(model: VtdUnit, requesters: ReadonlyMap<Device, number>) {
    this.#model = model;
    this.#requesters = requesters;
    model.deviceTlbs.send = (sid, request) => this.#invalidate(sid, request);
    model.pageRequests.respond = (sid, message) => this.#functions.get(sid)?.groupResponse(message);
  }

  connect(fn: PciFunction): void {
    this.#functions.set(fn.requesterId, fn);
  }

  requestTranslation(device: Device, request: TranslationRequest): TranslationCompletion {
    const sid = this.#requesters.get(device);
    if (sid === undefined) return { status: 'UNSUPPORTED_REQUEST' };
    return this.#model.requestTranslation(sid, request);
  }

  takesTranslated(device: Device, { frame, offset, access }: TranslatedRequest): boolean {
    const sid = this.#requesters.get(device);
    if (sid === undefined) return false;
    const lo = (frame % HIGH) * FRAME_SIZE + offset;
    const asked = Access.TRANSLATED | (access === 'write' ? Access.WRITE : Access.READ);
    return this.#model.translate(sid, NO_PASID, lo, Math.floor(frame / HIGH), asked) >= 0;
  }

  invalidateCompletion(device: Device, completion: InvalidateCompletion): void {
    const sid = this.#requesters.get(device);
    if (sid !== undefined) this.#model.deviceTlbs.complete(sid, completion);
  }

  pageRequest(device: Device, message: PageRequestMessage): void {
    const sid = this.#requesters.get(device);
    if (sid !== undefined) this.#model.pageRequests.receive(sid, message);
  }

  /** Software turns ATS off at the function, then invalidates (VTD-5.10 §4.5.2): a function with ATS off keeps nothing, and says so. */
  #invalidate(sid: number, request: InvalidateRequest): void {
    const fn = this.#functions.get(sid);
    if (!fn?.ats || fn.invalidate(request)) return;
    this.#model.deviceTlbs.complete(sid, { itags: (1 << request.itag) >>> 0, count: 1 });
  }
}
