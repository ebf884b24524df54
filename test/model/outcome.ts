// SPDX-License-Identifier: Apache-2.0
/** How a step ends, in the model and in the engine. */
import { errnoName } from '../../src/base/errno.ts';
import type { IoctlResult } from '../../src/kernel/file.ts';

/** `OK` or an errno, and what the step answers. */
export interface Outcome {
  readonly code: string;
  readonly out: Readonly<Record<string, unknown>>;
}

/** What the engine said, and why where it refused. */
export interface EngineOutcome extends Outcome {
  readonly why: string;
}

export const done: EngineOutcome = { code: 'OK', out: {}, why: '' };

/** The outcome of an ioctl; `out` takes what it answers from the structure that came back, and from its result. */
export function answer<T>(
  { result, reply }: { result: IoctlResult; reply: T },
  out: (reply: T, value: number) => Outcome['out'] = () => ({}),
): EngineOutcome {
  const { value, why } = result;
  if (value < 0) return { code: errnoName(-value), out: {}, why };
  return { code: 'OK', out: out(reply, value), why };
}
