// SPDX-License-Identifier: Apache-2.0
/** The library: machines and their /dev/iommu, in process. No dependency, and nothing of Node or a browser is needed. */
export { Errno, ErrnoError, errnoName, type ErrnoName } from './base/errno.ts';
export * as uapi from './abi/iommufd.ts';
export * as uapiTest from './abi/iommufd_test.ts';
export * as uapiVfio from './abi/vfio.ts';
export type { DeviceFile, FileTable, IoctlResult, OpenFile } from './kernel/file.ts';
export type { Process, Task } from './kernel/task.ts';
export { LocalProcess, type LocalProcessOptions } from './kernel/local_process.ts';
export type { FileMemory } from './memory/file_memory.ts';
export { LocalFile, type LocalMapping, LocalMm } from './memory/local_mm.ts';
export { ClientMemory, type Pin } from './memory/client_memory.ts';
export type { Mapping, Mm } from './memory/mm.ts';
export { SvaBond } from './iommu/sva.ts';
export { Iommufd } from './iommufd/iommufd.ts';
export { LocalClient } from './iommufd/local_client.ts';
export { LocalEventFd, LocalVfioClient } from './vfio/local_client.ts';
export { Vfio } from './vfio/vfio.ts';
export { explain } from './machine/explain.ts';
export type { MachineDescription } from './machine/description.ts';
export { Machine } from './machine/machine.ts';
export { MachineError } from './machine/machine_error.ts';
export { presets } from './machine/presets.ts';
export { ProcessMm } from './iommu/process_mm.ts';
export { sweepFaults } from './sim/faults.ts';
export { Sim, type SimOptions } from './sim/sim.ts';
