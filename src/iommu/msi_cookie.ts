// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../base/errno.ts';
import { FRAME_SHIFT, FRAMES_PER_PAGE } from '../memory/frame.ts';
import { PAGE_SIZE } from '../memory/mm.ts';
import type { Device } from './device.ts';
import { type Domain, DomainType, isPagingDomain, Prot } from './domain.ts';

/*
 * Interrupts that pass through the IOMMU (Arm): the doorbell they write to must be mapped in the domain of the device, in a
 * window that its users leave free (a SW_MSI reserved region). Source: Linux drivers/iommu/dma-iommu.c.
 */

const PAGE = BigInt(PAGE_SIZE);

/**
 * Prepares a domain whose user manages its addresses (VFIO) to have doorbells mapped on demand, page after page from `base`. 0, or -EINVAL (no
 * such domain), -EEXIST (it has a manager).
 */
export function getMsiCookie(domain: Domain, base: bigint): number {
  if (domain.type !== DomainType.UNMANAGED) return -Errno.EINVAL;
  if (domain.cookie.kind !== 'none') return -Errno.EEXIST;
  domain.cookie = { kind: 'msi', base, pages: new Map() };
  return 0;
}

/**
 * Where an interrupt of the device must be written so that it reaches the doorbell at a physical address: mapped now, if it
 * was not. The doorbell itself where nothing translates. Or -EOPNOTSUPP (the domain cannot), -ENOMEM.
 */
export function prepareMsi(device: Device, doorbell: bigint): bigint | number {
  const { group } = device;
  if (!group) return doorbell;
  return group.core.locked(group, () => {
    const { domain } = group;
    if (!domain || domain.type === DomainType.IDENTITY) return doorbell;
    const { cookie } = domain;
    if (cookie.kind === 'msi') return mapDoorbell(domain, cookie, doorbell);
    if (cookie.kind === 'iommufd' && cookie.mapMsi) return cookie.mapMsi(device, doorbell);
    return -Errno.EOPNOTSUPP;
  });
}

function mapDoorbell(
  domain: Domain,
  cookie: { readonly base: bigint; readonly pages: Map<bigint, bigint> },
  doorbell: bigint,
): bigint | number {
  if (!isPagingDomain(domain)) return -Errno.EOPNOTSUPP;
  const offset = doorbell & (PAGE - 1n);
  const page = doorbell - offset;
  const known = cookie.pages.get(page);
  if (known !== undefined) return known + offset;
  const iova = cookie.base + BigInt(cookie.pages.size) * PAGE;
  const frame = Number(page >> BigInt(FRAME_SHIFT));
  const prot = Prot.WRITE | Prot.NOEXEC | Prot.MMIO;
  if (domain.map(iova, frame, FRAMES_PER_PAGE, prot) !== 0) return -Errno.ENOMEM;
  cookie.pages.set(page, iova);
  return iova + offset;
}
