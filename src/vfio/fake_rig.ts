// SPDX-License-Identifier: Apache-2.0
/** For tests of vfio-pci: a function of any shape behind an IOMMU that only blocks, with a client that has it bound. */
import { Errno } from '../base/errno.ts';
import { BaseDomain } from '../iommu/base_domain.ts';
import { IommuDevice } from '../iommu/device.ts';
import { DomainType } from '../iommu/domain.ts';
import { IommuCap, type IommuOps } from '../iommu/ops.ts';
import { Iommufd } from '../iommufd/iommufd.ts';
import { LocalClient } from '../iommufd/local_client.ts';
import type { AccessWidth, BarHandler } from '../pci/bar.ts';
import { FakePath } from '../pci/fake_path.ts';
import { type FunctionOptions, PciFunction } from '../pci/function.ts';
import { Sim } from '../sim/sim.ts';
import type { VfioCdev } from './cdev.ts';
import { LocalEventFd, LocalVfioClient } from './local_client.ts';
import { Vfio } from './vfio.ts';

class BlockedDomain extends BaseDomain<typeof DomainType.BLOCKED> {
  override setDevPasid(): number {
    return -Errno.EOPNOTSUPP;
  }

  override attachDev(): number {
    return 0;
  }
}

/** Registers that are memory, and remember how they were accessed: `r8@0x10`, `w4@0x18`. */
export class FakeRegisters implements BarHandler {
  readonly accesses: string[] = [];
  readonly view: DataView;

  constructor(bytes: number) {
    this.view = new DataView(new ArrayBuffer(bytes));
  }

  read(offset: number, width: AccessWidth): bigint {
    this.accesses.push(`r${width}@0x${offset.toString(16)}`);
    let value = 0n;
    for (let i = width - 1; i >= 0; i--)
      value = (value << 8n) | BigInt(this.view.getUint8(offset + i));
    return value;
  }

  write(offset: number, width: AccessWidth, value: bigint): void {
    this.accesses.push(`w${width}@0x${offset.toString(16)}`);
    for (let i = 0; i < width; i++) {
      this.view.setUint8(offset + i, Number((value >> BigInt(8 * i)) & 0xffn));
    }
  }
}

export const BAR_BYTES = 0x1000;

export class FakeRig {
  readonly sim = new Sim({ checkLocks: true });
  readonly registers = new FakeRegisters(BAR_BYTES);
  readonly fn: PciFunction;
  readonly cdev: VfioCdev;
  readonly iommu: LocalClient;
  /** Bound. */
  readonly device: LocalVfioClient;
  /** How often the device model was reset. */
  resets = 0;

  /** BAR 0 holds `registers`, unless `options` has other BARs. */
  constructor(options: Partial<FunctionOptions> = {}) {
    const iommufd = new Iommufd({ sim: this.sim });
    const blocked = new BlockedDomain(DomainType.BLOCKED);
    const ops: IommuOps = {
      name: 'blocks',
      blockedDomain: blocked,
      defaultDomain: blocked,
      capable: (_device, cap) => cap === IommuCap.CACHE_COHERENCY,
    };
    this.fn = new PciFunction(
      {
        address: { domain: 0, bus: 0, device: 2, function: 0 },
        identity: {
          vendorId: 0x1234,
          deviceId: 0x5678,
          revisionId: 1,
          classCode: 0x00_ff00,
          subsystemVendorId: 0x1234,
          subsystemId: 1,
        },
        bars: [{ index: 0, size: BAR_BYTES, handler: this.registers }],
        express: {},
        onReset: () => this.resets++,
        ...options,
      },
      new FakePath(),
    );
    const rc = iommufd.core.probeDevice(this.fn.device, new IommuDevice('blocks', ops));
    if (rc !== 0) throw new Error(`the device was refused: ${rc}`);
    this.cdev = new Vfio(this.sim).register(this.fn);
    this.iommu = new LocalClient(iommufd);
    this.device = this.open();
  }

  /** Opens the device and binds it. */
  open(): LocalVfioClient {
    const device = new LocalVfioClient(this.cdev, this.iommu.process);
    device.call('VFIO_DEVICE_BIND_IOMMUFD', { iommufd: this.iommu.fd });
    return device;
  }

  /** New eventfds of the client, with their descriptors. */
  eventfds(count: number): { readonly fds: number[]; readonly events: LocalEventFd[] } {
    const events = Array.from({ length: count }, () => new LocalEventFd());
    return { events, fds: events.map((event) => this.iommu.process.add(event)) };
  }
}
