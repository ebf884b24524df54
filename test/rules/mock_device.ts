// SPDX-License-Identifier: Apache-2.0
import * as t from '../../src/abi/iommufd_test.ts';
import type { MockDevice } from '../../src/drivers/mock/mock_device.ts';
import { type PageResponse, PageRequestFlags } from '../../src/iommu/fault.ts';
import { reportDeviceFault } from '../../src/iommu/io_pgfault.ts';
import { attachDevice, detachDevice, replaceDevice } from '../../src/iommufd/change_pt.ts';
import { IommufdDevice } from '../../src/iommufd/device.ts';
import type { LocalClient } from '../../src/iommufd/local_client.ts';
import type { FrameBytes } from '../../src/memory/physical_memory.ts';
import { translateInDomain } from '../../src/pci/domain_translation.ts';
import { isFault } from '../../src/pci/translator.ts';
import { type Answer, type Asking, IOVA, PAGE, type RuleDevice } from './rule_device.ts';

const ANSWERS: readonly Answer[] = ['SUCCESS', 'INVALID', 'FAILURE'];
const READ = 1;

/** A device of the test driver, bound and attached as VFIO does it. It does no DMA: its table says what it would reach. */
export class TestDevice implements RuleDevice {
  readonly core: MockDevice;
  readonly #bound: IommufdDevice;
  readonly #client: LocalClient;
  readonly #memory: FrameBytes;
  readonly #responses: () => readonly PageResponse[];
  readonly #attached = new Set<number>();
  /** Answers that had come when a group was asked for. */
  readonly #since = new Map<number, number>();

  /** `responses`: what the driver was told to answer it. */
  constructor(
    core: MockDevice,
    client: LocalClient,
    memory: FrameBytes,
    responses: () => readonly PageResponse[],
  ) {
    this.core = core;
    this.#client = client;
    this.#memory = memory;
    this.#responses = responses;
    this.#bound = IommufdDevice.claim(client.file.context, core);
  }

  get id(): number {
    return this.#bound.id;
  }

  attach(table: number, pasid = 0): number {
    if (this.#attached.has(pasid)) return replaceDevice(this.#bound, pasid, table);
    const id = attachDevice(this.#bound, pasid, table);
    this.#attached.add(pasid);
    return id;
  }

  detach(pasid = 0): void {
    if (this.#attached.delete(pasid)) detachDevice(this.#bound.context, this.#bound, pasid);
  }

  close(): void {
    for (const pasid of [...this.#attached]) this.detach(pasid);
    this.#bound.unbind();
  }

  read(pasid = 0, iova = IOVA): number | undefined {
    const found = translateInDomain(this.#domainAt(pasid), iova, 'read');
    const into = new Uint8Array(1);
    if (isFault(found) || !this.#memory.read(found.frame, found.offset, into)) return undefined;
    return into[0];
  }

  write(byte: number, pasid = 0, iova = IOVA): boolean {
    const found = translateInDomain(this.#domainAt(pasid), iova, 'write');
    return !isFault(found) && this.#memory.write(found.frame, found.offset, Uint8Array.of(byte));
  }

  ask(grpid: number, { pasid = 0, page = 0, last = true, privateData }: Asking = {}): void {
    if (last) this.#since.set(grpid, this.#responses().length);
    const addr = IOVA + BigInt(page * PAGE);
    const hasData = privateData !== undefined;
    const flags =
      (last ? PageRequestFlags.LAST_PAGE : 0) |
      (pasid === 0 ? 0 : PageRequestFlags.PASID_VALID) |
      (hasData ? PageRequestFlags.PRIVATE_DATA : 0);
    const isBound = [...this.#client.file.context.objects].includes(this.#bound);
    // The test driver's command makes whole groups without private data, of devices that are bound.
    if (!last || !isBound || hasData) {
      const request = { flags, pasid, grpid, perm: READ, addr };
      reportDeviceFault(this.core, hasData ? { ...request, privateData } : request);
      return;
    }
    this.#client.call('IOMMU_TEST_CMD', {
      op: t.IOMMU_TEST_OP_TRIGGER_IOPF,
      u: { trigger_iopf: { dev_id: this.id, pasid, grpid, perm: READ, addr } },
    });
  }

  answer(group: number): Answer {
    const since = this.#since.get(group);
    if (since === undefined) throw new Error(`group ${group} was not asked for`);
    const response = this.#responses()
      .slice(since)
      .find(({ grpid }) => grpid === group);
    return response ? (ANSWERS[response.code] ?? 'none') : 'none';
  }

  answers(): number {
    return this.#responses().length;
  }

  answeredData(): bigint {
    return this.#responses().at(-1)?.privateData ?? 0n;
  }

  #domainAt(pasid: number) {
    return pasid === 0 ? this.core.domain : this.core.group?.domainAt(pasid);
  }
}
