// SPDX-License-Identifier: Apache-2.0
/**
 * For tests: takes out invalidations of the driver for VT-d, or cuts them short, by the place in the source that asks for them. A test
 * replaces the module that fills in descriptors:
 *
 *     vi.mock('../drivers/intel/descriptors.ts', async (original) => {
 *       const { withLosses } = await import('./lost_invalidations.ts');
 *       return withLosses(await original());
 *     });
 */
type Fill = (at: Uint32Array, ...rest: unknown[]) => void;

/** `iotlbOfPages cache_tags.ts:12`: a function of descriptors.ts, and who calls it. */
export type Place = string;

/** What has asked for invalidations so far, and whose requests are changed. */
export const places = {
  /** With the function's name. */
  seen: new Map<Place, string>(),
  /** Its requests are not made; or those of all that call one function, by its name. */
  lost: '' as Place,
  /** Its requests are for the first page of what they are for. */
  narrowed: '' as Place,
};

/** What makes the driver ask for them, once, and what was found. */
export type Play = (report: (found: { readonly text: string }) => void) => void;

const INVALIDATION = /^(iotlb|pasidCache|context|deviceIotlb|all)/;
/** A domain that nobody has. */
const NOBODY = 0xfffe;

export function withLosses(real: Record<string, unknown>): Record<string, unknown> {
  const wrapped = Object.entries(real).map(([name, made]) => {
    if (typeof made !== 'function' || !INVALIDATION.test(name)) return [name, made];
    const fill: Fill = (at, ...rest) => {
      const caller = new Error().stack?.split('\n')[2] ?? '';
      const place = `${name} ${/[^/]+\.ts:\d+/.exec(caller)?.[0]}`;
      places.seen.set(place, name);
      if (place === places.lost || name === places.lost)
        (real['iotlbOfDomain'] as Fill)(at, NOBODY, {});
      else (made as Fill)(at, ...(place === places.narrowed ? rest.map(firstPage) : rest));
    };
    return [name, fill];
  });
  return Object.fromEntries(wrapped) as Record<string, unknown>;
}

/** A range of pages, cut short. */
const firstPage = (argument: unknown): unknown =>
  typeof argument === 'object' && argument !== null && 'maskLg2' in argument
    ? { ...argument, maskLg2: 0 }
    : argument;

/** At its start a unit's caches may hold anything: those of the model are empty. */
const NOTHING_TO_FORGET = new Set(['allContexts', 'allIotlb', 'allPasidCaches']);

const said = (where: string): RegExp => RegExp(`by the ${where},.*(Missing|Too narrow|Asked)`);
const iotlb = said('(IOTLB|paging-structure caches)');
/** By function: where the loss shows, and how it is named. */
const NAMED: Readonly<Record<string, RegExp>> = {
  iotlbOfPages: iotlb,
  iotlbOfDomain: iotlb,
  iotlbOfPasid: iotlb,
  iotlbOfPasidPages: iotlb,
  pasidCacheOfPasid: said('PASID cache'),
  deviceIotlb: said('device TLB'),
  deviceIotlbOfPasid: said('device TLB'),
  contextOfDevice: said('context cache'),
};

/**
 * Takes out each place in turn, with a play for each: those that nobody named, and what was told instead. `together`: functions whose
 * callers cover for each other, so that all of them are taken out at once.
 */
export function unnamedLosses(
  play: Play,
  together: readonly string[] = [],
): { asked: number; unnamed: string[] } {
  places.seen.clear();
  play(() => undefined);
  const asked = [...places.seen].filter(([, made]) => !NOTHING_TO_FORGET.has(made));
  const lost = asked.map(
    ([place, made]) => [together.includes(made) ? made : place, made] as const,
  );
  const unnamed = lost.flatMap(([place, made]) => {
    const found = textsOf(play, { lost: place });
    return found.some((text) => NAMED[made]?.test(text))
      ? []
      : [`${place}: ${found[0] ?? 'nothing'}`];
  });
  return { asked: asked.length, unnamed };
}

/** What is told while a place is lost or narrowed. */
export function textsOf(
  play: Play,
  changed: { readonly lost?: Place; readonly narrowed?: Place },
): string[] {
  const found: string[] = [];
  Object.assign(places, changed);
  try {
    play(({ text }) => found.push(text));
  } finally {
    Object.assign(places, { lost: '', narrowed: '' });
  }
  return found;
}

/** The place in a file that calls a function. */
export const placeIn = (made: string, file: string): Place =>
  [...places.seen.keys()].find((place) => place.startsWith(`${made} ${file}:`)) ?? '';
