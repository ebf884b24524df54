// SPDX-License-Identifier: Apache-2.0
import { explain } from '../src/machine/explain.ts';
import type { Machine } from '../src/machine/machine.ts';
import type { DmaObserver } from '../src/pci/dma.ts';
import { dmaText } from '../src/pci/dma_text.ts';

/** Tells the way of each DMA that is refused; `other`, where there is one, tells of all DMA and is heard first. */
export const explaining = (
  machine: Machine,
  tell: (text: string) => void,
  other: DmaObserver | undefined,
): DmaObserver => ({
  dma: (event) => {
    if (other) other.dma?.(event);
    else if (event.fault) tell(dmaText(event));
    if (!event.fault) return;
    const at = event.fault.at;
    for (const line of explain(machine, event.bdf, event.pasid, at)) tell(`    ${line}`);
  },
  pageRequest: (...event) => other?.pageRequest?.(...event),
  groupResponse: (...event) => other?.groupResponse?.(...event),
  driverMistake: (bdf, text) => other?.driverMistake?.(bdf, text),
});
