// SPDX-License-Identifier: Apache-2.0
/**
 * One line of our code made wrong for each rule: `line` is a whole line of `file` without its indentation, there exactly once, `by` takes
 * its place, and a test that cites `rule` in its name must fail.
 *
 * @typedef {{ rule: string, file: string, line: string, by: string, why: string }} Mutation
 */

/** @type {readonly Mutation[]} */
export const mutations = [
  {
    rule: 'A1',
    file: 'src/iommu/alloc.ts',
    line: 'if (hasChoices || !ops.domainAllocPaging) return -Errno.EOPNOTSUPP;',
    by: 'if (!ops.domainAllocPaging) return -Errno.EOPNOTSUPP;',
    why: 'a simple driver is given choices that it never sees',
  },
  {
    rule: 'A1',
    file: 'src/iommu/alloc.ts',
    line: 'if (!isPagingDomain(request.parent) || request.parent.owner !== ops) return -Errno.EINVAL;',
    by: 'if (!isPagingDomain(request.parent)) return -Errno.EINVAL;',
    why: "a domain nests on another driver's",
  },
  {
    rule: 'A1',
    file: 'src/iommu/alloc.ts',
    line: 'const domain = ops.domainAllocSva?.(device, mm) ?? -Errno.EOPNOTSUPP;',
    by: 'const domain = ops.domainAllocSva?.(device, { ...mm }) ?? -Errno.EOPNOTSUPP;',
    why: 'an SVA domain is of another address space than was asked for',
  },
  {
    rule: 'A2',
    file: 'src/iommu/base_domain.ts',
    line: 'this.#faultHandler = options.faultHandler;',
    by: 'this.#faultHandler ??= undefined;',
    why: 'the handler of the request is not the one of the domain',
  },
  {
    rule: 'A2',
    file: 'src/iommu/base_domain.ts',
    line: 'if (this.#owner) {',
    by: 'if (false as boolean) {',
    why: 'a domain can be sealed again, with another handler',
  },
  {
    rule: 'A3',
    file: 'src/iommu/attach.ts',
    line: 'if (isFaultCapable(domain) && !group.devices.every((device) => ops.canFault?.(device) ?? false)) {',
    by: 'if (isFaultCapable(domain) && !group.devices.some((device) => ops.canFault?.(device) ?? false)) {',
    why: 'one device that can fault stands for its whole group',
  },
  {
    rule: 'A3',
    file: 'src/iommu/pasid.ts',
    line: 'if (isFaultCapable(domain) && !canFault) return -Errno.ENODEV; // A3',
    by: 'void canFault;',
    why: 'a PASID of a device that cannot fault gets a fault-capable domain',
  },
  {
    rule: 'A4',
    file: 'src/iommu/domain.ts',
    line: 'export const isFaultCapable = (domain: Domain): boolean => domain.faultHandler !== undefined;',
    by: 'export const isFaultCapable = (domain: Domain): boolean => domain.faultHandler === undefined;',
    why: 'the answer to drivers is the opposite',
  },
  {
    rule: 'B1',
    file: 'src/iommu/attach.ts',
    line: 'if (pasid !== NO_PASID) return attachPasid(device, pasid, domain, handle);',
    by: '',
    why: 'a PASID takes the path of the requests without one',
  },
  {
    rule: 'B1',
    file: 'src/iommu/attach.ts',
    line: 'if (type !== undefined && entry.domain?.type !== type) return -Errno.EBUSY;',
    by: '',
    why: 'a handle is found whose domain is of another type',
  },
  {
    rule: 'B2',
    file: 'src/iommu/group.ts',
    line: 'for (const [index, device] of this.devices.entries()) {',
    by: 'for (const [index, device] of this.devices.slice(0, 1).entries()) {',
    why: 'only the first device of a group changes its domain',
  },
  {
    rule: 'B2',
    file: 'src/iommu/ownership.ts',
    line: 'if (group.owner !== owner) return -Errno.EPERM;',
    by: '',
    why: 'a group has two owners',
  },
  {
    rule: 'B2',
    file: 'src/iommufd/attach.ts',
    line: 'if (devices.size === 0) {',
    by: 'if (devices.size >= 0) {',
    why: 'the first detach takes the table from the whole group',
  },
  {
    rule: 'B2',
    file: 'src/iommufd/attach.ts',
    line: 'hwpt.users += attachment.devices.size;',
    by: 'hwpt.users += 1;',
    why: 'a replace counts one of the devices that it moves',
  },
  {
    rule: 'B3',
    file: 'src/iommu/group.ts',
    line: 'this.revert(index, domain);',
    by: '',
    why: 'devices before the one that refused keep the new domain',
  },
  {
    rule: 'B3',
    file: 'src/iommu/pasid.ts',
    line: 'removePasid(undo, pasid, domain);',
    by: '',
    why: 'a PASID stays on the devices before the one that refused',
  },
  {
    rule: 'B3',
    file: 'src/iommufd/attach.ts',
    line: 'cleanup.defer(() => to.ioas.table.unreserve(each.device));',
    by: '',
    why: 'a replace that fails leaves reservations in the new address space',
  },
  {
    rule: 'B4',
    file: 'src/iommu/attach.ts',
    line: 'if (!current || current === handle) return -Errno.EINVAL;',
    by: 'if (!current) return -Errno.EINVAL;',
    why: 'the handle in force replaces itself',
  },
  {
    rule: 'B4',
    file: 'src/iommu/pasid.ts',
    line: 'if (!current || current === handle) return -Errno.EINVAL;',
    by: 'if (current === handle) return -Errno.EINVAL;',
    why: 'a replace attaches where nothing was attached',
  },
  {
    rule: 'B4',
    file: 'src/iommufd/attach.ts',
    line: 'if (!attachment?.devices.has(device)) {',
    by: 'if (!attachment) {',
    why: 'a device replaces what another of its group has attached',
  },
  {
    rule: 'B5',
    file: 'src/iommu/core.ts',
    line: 'return [...device.resvRegions, ...own];',
    by: 'return own;',
    why: "the platform's regions are forgotten",
  },
  {
    rule: 'B5',
    file: 'src/iommufd/attach.ts',
    line: 'reservingTable(hwpt, pasid)?.ioas.table.unreserve(device.device);',
    by: 'if (devices.size === 0) reservingTable(hwpt, pasid)?.ioas.table.unreserve(device.device);',
    why: 'regions stay until the last device of the group leaves',
  },
  {
    rule: 'B5',
    file: 'src/iommufd/attach.ts',
    line: 'enforceReserved(paging.ioas.table, device, group);',
    by: 'if (!present) enforceReserved(paging.ioas.table, device, group);',
    why: 'only the regions of the first device of a group bind',
  },
  {
    rule: 'B6',
    file: 'src/iommufd/device.ts',
    line: 'if (!selftest && !allowUnsafeInterrupts && !group.group.hasIsolatedMsi()) {',
    by: 'if (!selftest && !allowUnsafeInterrupts && !group.group) {',
    why: 'interrupts that can be forged are accepted',
  },
  {
    rule: 'B6',
    file: 'src/iommu/group.ts',
    line: 'return this.devices.every((device) => device.isolatedMsi);',
    by: 'return this.devices.some((device) => device.isolatedMsi);',
    why: 'one isolated device stands for its group',
  },
  {
    rule: 'B6',
    file: 'src/iommu/msi_cookie.ts',
    line: 'if (known !== undefined) return known + offset;',
    by: '',
    why: 'a doorbell is mapped once an interrupt',
  },
  {
    rule: 'B7',
    file: 'src/iommufd/change_pt.ts',
    line: 'if (!(hwpt instanceof HwptPaging) || !hwpt.automatic) continue;',
    by: 'if (!(hwpt instanceof HwptPaging)) continue;',
    why: 'a table made by hand is chosen on attach to an address space',
  },
  {
    rule: 'B7',
    file: 'src/iommufd/change_pt.ts',
    line: 'hwpt.automatic = true;',
    by: '',
    why: 'automatic tables are never shared, and outlive their devices',
  },
  {
    rule: 'B7',
    file: 'src/iommufd/hw_pagetable.ts',
    line: 'cleanup.defer(() => context.objects.abort(hwpt));',
    by: '',
    why: 'an allocation that is aborted keeps its id',
  },
  {
    rule: 'B7',
    file: 'src/iommufd/hw_pagetable.ts',
    line: 'if (!hwpt.enforceCacheCoherency) {',
    by: 'if (false as boolean) {',
    why: 'a table is made though its domain does not enforce coherency',
  },
  {
    rule: 'B8',
    file: 'src/iommu/attach.ts',
    line: 'group.pasids.delete(NO_PASID);',
    by: 'group.pasids.clear();',
    why: 'detaching without a PASID forgets the PASIDs',
  },
  {
    rule: 'B9',
    file: 'src/iommu/ownership.ts',
    line: 'if (group.pasids.size > 0) {',
    by: 'if (group.pasids.size > 99) {',
    why: 'a group is given away with PASIDs attached',
  },
];

/** Rules of the same chapters that nothing here can break yet, and why. */
export const notYet = [
  {
    rule: 'B10',
    why: 'no code shares PASID tables, so there is no line to break: a table shared by mistake would be new code',
  },
  { rule: 'B11', why: 'SVA binds are not built yet' },
];
