// SPDX-License-Identifier: Apache-2.0
const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

/** A descriptor of the queue as tests write it down: `iotlb 2 pages 0x40+2^0 rw`. */
export function inWords([w0 = 0, w1 = 0, w2 = 0, w3 = 0]: number[]): string {
  const [type, granularity, did] = [w0 & 0xf, (w0 >>> 4) & 3, w0 >>> 16];
  const page = (BigInt(w3) << 20n) | BigInt(w2 >>> 12);
  const mask = w2 & 0x3f;
  const pages = `pages ${hex(page)}+2^${mask}${w2 & 0x40 ? ' leaves' : ''}`;
  if (type === 1) return granularity === 3 ? `context ${did} of ${hex(w1)}` : 'contexts';
  if (type === 2) {
    const drains = `${w0 & 0x80 ? 'r' : ''}${w0 & 0x40 ? 'w' : ''}`;
    return `iotlb ${['?', 'all', `${did}`, `${did} ${pages}`][granularity]} ${drains}`.trimEnd();
  }
  if (type === 3) {
    if (w2 === 0xffff_f001 && w3 === 0x7fff_ffff) return `device ${hex(w1)} all`;
    return `device ${hex(w1)} ${hex(page)}${w2 & 1 ? ' S' : ''}`;
  }
  if (type === 9) {
    const of = `${hex(w0 >>> 16)}${w0 & 0x10 ? `/${w1 & 0xf_ffff}` : ''}`;
    return `answer ${of} group ${(w2 >>> 3) & 0x1ff}: ${(w0 >>> 12) & 0xf}`;
  }
  if (type === 8) {
    const of = `device ${hex(w0 >>> 16)}/${w1 & 0xf_ffff}`;
    if (w2 === 0xffff_f800 && w3 === 0x7fff_ffff) return `${of} all`;
    return `${of} ${hex(page)}${w2 & 0x800 ? ' S' : ''}`;
  }
  if (type === 6) return `piotlb ${did}/${w1 & 0xf_ffff}${granularity === 3 ? ` ${pages}` : ''}`;
  if (type === 7) return granularity === 3 ? 'pasids' : `pasid ${did}/${w1 & 0xf_ffff}`;
  return `type ${type}?`;
}
