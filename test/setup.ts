// SPDX-License-Identifier: Apache-2.0
/** For all tests: a DMA that is served from what software believes forgotten fails them. */
import { staleDefault } from '../src/machine/stale_default.ts';

staleDefault.report = ({ text }) => {
  throw new Error(text);
};
