// SPDX-License-Identifier: Apache-2.0

/** How parts of a line are set off. */
export interface Style {
  error(text: string): string;
  dim(text: string): string;
  bold(text: string): string;
}

const plain = (text: string): string => text;
const escape =
  (code: number) =>
  (text: string): string =>
    `\u001b[${code}m${text}\u001b[0m`;

export const plainStyle: Style = { error: plain, dim: plain, bold: plain };
export const colourStyle: Style = { error: escape(31), dim: escape(2), bold: escape(1) };

/**
 * Colours for a terminal that shows them; none for a file or a pipe, for TERM=dumb, or where NO_COLOR is set to
 * anything but an empty string (https://no-color.org).
 */
export function styleFor(
  isTerminal: boolean,
  environment: Readonly<Record<string, string | undefined>>,
): Style {
  const refused = (environment['NO_COLOR'] ?? '') !== '' || environment['TERM'] === 'dumb';
  return isTerminal && !refused ? colourStyle : plainStyle;
}
