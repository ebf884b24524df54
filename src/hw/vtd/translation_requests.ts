// SPDX-License-Identifier: Apache-2.0
import { hi as hiOf, lo as loOf } from '../../base/u64.ts';
import { encodeEntry } from '../../pci/ats_entry.ts';
import type { TranslationCompletion, TranslationRequest } from '../../pci/ats_messages.ts';
import { Access, NO_PASID } from './access.ts';
import type { Binding } from './binding.ts';
import type { Bindings } from './bindings.ts';
import { Fault, type FaultName } from './fault_reasons.ts';
import { Pgtt } from './iotlb.ts';

/** Answers of a unit to a look at its tables and caches. */
export interface Lookup {
  /** The page of 4 KiB that an access leads to, or minus the reason why it is refused; nothing is recorded. */
  look(binding: Binding, pasid: number, lo: number, hi: number, access: number): number;
  /** Pages, as a power of two, that the last look is good for. */
  readonly lastLg2: number;
  /** Records a refusal. */
  record(
    from: { readonly sid: number; readonly fpd: boolean },
    request: { readonly pasid: number; readonly lo: number; readonly hi: number },
    access: number,
    reason: number,
  ): void;
}

const reasons = (...names: readonly FaultName[]): ReadonlySet<number> =>
  new Set(names.map((name) => Fault[name]));

/** Nobody serves the function: unsupported request, which ends its ATS. */
const UNSUPPORTED = reasons(
  ...(['ROOT_NOT_PRESENT', 'CONTEXT_NOT_PRESENT', 'CONTEXT_BLOCKS'] as const),
  ...(['SM_PASID_IN_LEGACY', 'SM_ROOT_NOT_PRESENT', 'SM_CONTEXT_NOT_PRESENT'] as const),
  ...(['SM_DTE_CLEAR', 'SM_PASID_DISABLED', 'SM_PASID_TOO_LARGE', 'SM_RID_PASID'] as const),
  ...(['SM_PASID_BEYOND_PSS'] as const),
);

/** Tables that are wrong: completer abort. What is in neither is an answer without access, and no fault: the function can ask for the page. */
const ABORTED = reasons(
  ...(['ROOT_ACCESS', 'ROOT_RESERVED', 'CONTEXT_ACCESS', 'CONTEXT_RESERVED'] as const),
  ...(['CONTEXT_INVALID', 'SS_ACCESS', 'SS_RESERVED', 'INTERRUPT_ADDRESS'] as const),
  ...(['SM_ROOT_POINTER', 'SM_ROOT_ACCESS', 'SM_ROOT_RESERVED', 'SM_CONTEXT_ACCESS'] as const),
  ...(['SM_CONTEXT_RESERVED', 'SM_CONTEXT_INVALID', 'SM_DIRECTORY_ACCESS'] as const),
  ...(['SM_DIRECTORY_RESERVED', 'SM_PASID_ACCESS', 'SM_PASID_RESERVED'] as const),
  ...(['SM_PASID_INVALID', 'SM_SS_ACCESS', 'SM_SS_RESERVED', 'SM_SS_POINTER'] as const),
  ...(['SM_SS_UPDATE_NO_SNOOP', 'SM_SS_UPDATE_FAILED', 'SM_INTERRUPT_ADDRESS'] as const),
);

/** Told to software although the function gets an answer. */
const { SM_FS_UPDATE_FAILED } = Fault;

/** Addresses 0xfee00000 to 0xfeefffff are interrupts'. */
const INTERRUPT_MIB = 0xfeen;

const NONE = {
  ...{ start: 0n, sizeLg2: 12, read: false, write: false, execute: false, privileged: false },
  ...{ global: false, nonSnooped: false, untranslatedOnly: false },
};
const NOTHING: TranslationCompletion = { status: 'SUCCESS', entry: encodeEntry(NONE) };
/** A function may ask for all that it writes, messages of interrupts included: those go untranslated. */
const INTERRUPTS: TranslationCompletion = {
  status: 'SUCCESS',
  entry: encodeEntry({ ...NONE, write: true, untranslatedOnly: true }),
};

/**
 * Translation requests (ATS): what a function may keep of an address. What a page may is found by one look for each kind of access, so
 * that accessed and dirty bits are set as for accesses. What is answered and what is recorded: VTD-5.10 §7.1.3, VTD-5.10 §7.1.2.
 */
export class TranslationRequests {
  readonly #bindings: Bindings;
  readonly #unit: Lookup;

  constructor(bindings: Bindings, unit: Lookup) {
    this.#bindings = bindings;
    this.#unit = unit;
  }

  answer(sid: number, request: TranslationRequest): TranslationCompletion {
    const context = this.#bindings.context(sid);
    const reason = context.fault === 0 && !context.ats ? this.blockedReason : context.fault;
    if (reason !== 0) return this.#refuse({ sid, fpd: context.fpd }, request, reason);
    const binding = this.#bindings.find(sid, request.pasid?.value ?? NO_PASID);
    if (binding.fault !== 0) return this.#refuse(binding, request, binding.fault);
    return this.#translate(binding, request);
  }

  /** Why requests that ATS knows are not served where the context entry does not allow them. */
  get blockedReason(): number {
    return this.#bindings.isScalable ? Fault.SM_DTE_CLEAR : Fault.CONTEXT_BLOCKS;
  }

  #translate(binding: Binding, request: TranslationRequest): TranslationCompletion {
    const { pasid, iova, noWrite } = request;
    if (!pasid && iova >> 20n === INTERRUPT_MIB) return noWrite ? NOTHING : INTERRUPTS;
    const hasFirst = binding.pgtt === Pgtt.FIRST || binding.pgtt === Pgtt.NESTED;
    let mode = binding.addedAccess | (pasid?.privileged ? Access.PRIVILEGED : 0);
    if (!this.#bindings.isScalable) mode = 0;
    const privileged = mode !== 0;
    if (privileged && !binding.sre) return NOTHING;
    const wants: number[] = [Access.READ];
    if (!noWrite) wants.push(Access.WRITE);
    if (pasid?.execute && hasFirst && binding.ere) wants.push(Access.EXECUTE);
    const allowed = new Set<number>();
    let [page, lg2] = [0, 0];
    for (const access of wants) {
      const [lo, hi] = [loOf(iova), hiOf(iova)];
      const found = this.#unit.look(binding, pasid?.value ?? NO_PASID, lo, hi, access | mode);
      if (found < 0) {
        if (!ABORTED.has(-found) && found !== -SM_FS_UPDATE_FAILED) continue;
        return this.#refuse(binding, request, -found);
      }
      allowed.add(access);
      page = found;
      lg2 = this.#unit.lastLg2;
    }
    if (allowed.size === 0) return NOTHING;
    const entry = encodeEntry({
      ...NONE,
      start: BigInt(page - (page % 2 ** lg2)) * 4096n,
      sizeLg2: lg2 + 12,
      read: allowed.has(Access.READ),
      write: allowed.has(Access.WRITE),
      execute: allowed.has(Access.EXECUTE),
      privileged,
    });
    return { status: 'SUCCESS', entry };
  }

  #refuse(
    from: { readonly sid: number; readonly fpd: boolean },
    { pasid, iova }: TranslationRequest,
    reason: number,
  ): TranslationCompletion {
    const isUnsupported = UNSUPPORTED.has(reason);
    if (!isUnsupported && !ABORTED.has(reason) && reason !== SM_FS_UPDATE_FAILED) return NOTHING;
    const access =
      Access.TRANSLATION_REQUEST |
      (pasid?.execute ? Access.EXECUTE : 0) |
      (pasid?.privileged ? Access.PRIVILEGED : 0);
    const request = { pasid: pasid?.value ?? NO_PASID, lo: loOf(iova), hi: hiOf(iova) };
    this.#unit.record(from, request, access, reason);
    if (reason === SM_FS_UPDATE_FAILED) return NOTHING;
    return { status: isUnsupported ? 'UNSUPPORTED_REQUEST' : 'COMPLETER_ABORT' };
  }
}
