// SPDX-License-Identifier: Apache-2.0
import type { StaleTranslation } from './stale_translations.ts';

/** What becomes of stale translations in machines that are made without `onStale`: nobody looks. Tests have one that throws. */
export const staleDefault: { report: ((found: StaleTranslation) => void) | undefined } = {
  report: undefined,
};
