// SPDX-License-Identifier: Apache-2.0
import { iommu_hwpt_page_response, iommu_hwpt_pgfault } from '../../src/abi/iommufd.ts';
import type { LocalClient } from '../../src/iommufd/local_client.ts';
import type { DeviceFile } from '../../src/kernel/file.ts';

/** A page of the client's memory. */
export const BUFFER = 0x2000_0000n;
const MOST = 64;

/** A fault as the client reads it. */
export interface Fault {
  readonly device: number;
  readonly pasid: number;
  readonly group: number;
  readonly cookie: number;
  readonly addr: bigint;
  /** IOMMU_PGFAULT_FLAGS_*: 1 it has a PASID, 2 it is the last of its group; there are no others. */
  readonly flags: number;
}

/** A fault queue of a client, and who reads it. */
export class FaultReader {
  readonly id: number;
  readonly #client: LocalClient;
  readonly #file: DeviceFile;

  constructor(client: LocalClient) {
    const { out_fault_id, out_fault_fd } = client.call('IOMMU_FAULT_QUEUE_ALLOC', {});
    const open = client.process.get(out_fault_fd);
    if (open?.kind !== 'device') throw new Error('a fault queue without a file');
    this.id = out_fault_id;
    this.#client = client;
    this.#file = open.file;
  }

  /** All faults that there are. */
  read(): Fault[] {
    const { size } = iommu_hwpt_pgfault;
    const bytes = new Uint8Array(MOST * size);
    const { process } = this.#client;
    const count = this.#file.read?.(process, BUFFER, bytes.length) ?? 0;
    if (count < 0) throw new Error(`read: ${count}`);
    process.mm.copyIn(BUFFER, bytes);
    const view = new DataView(bytes.buffer);
    return Array.from({ length: count / size }, (_, i) => {
      const fault = iommu_hwpt_pgfault.on(view, i * size);
      const { dev_id: device, pasid, grpid: group, cookie, addr, flags } = fault;
      return { device, pasid, group, cookie, addr, flags };
    });
  }

  /** Answers a group: the bytes taken, or a negative errno. */
  respond(cookie: number, code = 0): number {
    const bytes = new Uint8Array(iommu_hwpt_page_response.size);
    const response = iommu_hwpt_page_response.on(new DataView(bytes.buffer));
    response.cookie = cookie;
    response.code = code;
    this.#client.process.mm.copyOut(BUFFER, bytes);
    return this.#file.write?.(this.#client.process, BUFFER, bytes.length) ?? 0;
  }
}
