// SPDX-License-Identifier: Apache-2.0
import {
  GroupResponse,
  type GroupResponseMessage,
  isStopMarker,
  type PageRequestMessage,
} from './ats_messages.ts';

/** `page request 0000:00:02.0 read 0x200000: group 5, last` */
export function pageRequestText(
  bdf: string,
  message: PageRequestMessage,
  refusal: string | undefined,
): string {
  const { pasid, address, read, write, last, group } = message;
  const who = pasid ? `${bdf} pasid ${pasid.value}` : bdf;
  if (isStopMarker(message)) return `page request ${who}: stop marker`;
  const access = [read && 'read', write && 'write', pasid?.execute && 'execute'];
  const what = access.filter(Boolean).join('+') || 'nothing';
  const how = refusal === undefined ? '' : `, not sent (${refusal})`;
  return `page request ${who} ${what} 0x${address.toString(16)}: group ${group}${last ? ', last' : ''}${how}`;
}

const NAMES = new Map<number, string>(
  Object.entries(GroupResponse).map(([name, code]) => [code, name]),
);

/** `page response 0000:00:02.0: group 5, SUCCESS` */
export function groupResponseText(
  bdf: string,
  { group, pasid, code }: GroupResponseMessage,
  isExpected: boolean,
): string {
  const who = pasid === undefined ? bdf : `${bdf} pasid ${pasid}`;
  const name = NAMES.get(code) ?? `code ${code}`;
  return `page response ${who}: group ${group}, ${name}${isExpected ? '' : ', unexpected'}`;
}
