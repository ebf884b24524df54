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
  const { pasid, address, read, write, last, group, privateData } = message;
  const who = pasid ? `${bdf} pasid ${pasid.value}` : bdf;
  if (isStopMarker(message)) return `page request ${who}: stop marker`;
  const access = [read && 'read', write && 'write', pasid?.execute && 'execute'];
  const what = access.filter(Boolean).join('+') || 'nothing';
  const how = refusal === undefined ? '' : `, not sent (${refusal})`;
  const where = `0x${address.toString(16)}`;
  return `page request ${who} ${what} ${where}: group ${group}${last ? ', last' : ''}${dataText(privateData)}${how}`;
}

const NAMES = new Map<number, string>(
  Object.entries(GroupResponse).map(([name, code]) => [code, name]),
);

/** `page response 0000:00:02.0: group 5, SUCCESS` */
export function groupResponseText(
  bdf: string,
  { group, pasid, code, privateData }: GroupResponseMessage,
  isExpected: boolean,
): string {
  const who = pasid === undefined ? bdf : `${bdf} pasid ${pasid}`;
  const name = NAMES.get(code) ?? `code ${code}`;
  const how = isExpected ? '' : ', unexpected';
  return `page response ${who}: group ${group}, ${name}${dataText(privateData)}${how}`;
}

const dataText = (data: bigint | undefined): string =>
  data === undefined ? '' : `, private data 0x${data.toString(16)}`;
