// SPDX-License-Identifier: Apache-2.0
import { IommuCore, type IommuCoreOptions } from '../iommu/core.ts';
import type { DeviceFile } from '../kernel/file.ts';
import { AccountMode } from '../memory/accounting.ts';
import { ClientMemory } from '../memory/client_memory.ts';
import { Mutex } from '../sim/lock.ts';
import { Sim } from '../sim/sim.ts';
import { Context } from './context.ts';
import { IommufdFile } from './dispatch.ts';
import { PAGES_LOCK } from './locks.ts';
import type { TestHardware } from './test_hardware.ts';

export type IommufdOptions = Pick<
  IommuCoreOptions,
  'sim' | 'pageResponseTimeout' | 'vfPageRequests'
> & { readonly memory?: ClientMemory };

/** iommufd as a whole: what is behind every open of /dev/iommu on one machine. */
export class Iommufd {
  readonly sim: Sim;
  readonly memory: ClientMemory;
  readonly core: IommuCore;
  readonly pagesLock: Mutex;
  /** Where IOMMU_TEST_CMD makes devices; a machine without one has no mock devices. */
  testHardware: TestHardware | undefined = undefined;
  private readonly open_ = new Set<Context>();

  constructor(options: IommufdOptions = {}) {
    this.sim = options.sim ?? new Sim();
    this.pagesLock = new Mutex(this.sim, PAGES_LOCK);
    this.memory = options.memory ?? new ClientMemory();
    const { pageResponseTimeout, vfPageRequests } = options;
    this.core = new IommuCore({
      sim: this.sim,
      ...(pageResponseTimeout === undefined ? {} : { pageResponseTimeout }),
      ...(vfPageRequests === undefined ? {} : { vfPageRequests }),
    });
  }

  get faults(): Sim['faults'] {
    return this.sim.faults;
  }

  /** Opens /dev/iommu. @param name what /proc/PID/fd shows */
  open(name = '/dev/iommu'): IommufdFile {
    const context = new Context(this);
    this.open_.add(context);
    return new IommufdFile(context, name);
  }

  /** Opens /dev/vfio/vfio, which iommufd provides: the same, but memory is charged as VFIO did. */
  openContainer(): IommufdFile {
    const file = this.open('/dev/vfio/vfio');
    file.context.accountMode = AccountMode.MM;
    return file;
  }

  /** For Context: its last reference is gone. */
  closed(context: Context): void {
    this.open_.delete(context);
  }

  /** Contexts that are alive: open files, and closed ones that an access still holds. For leak checks and summaries. */
  get contexts(): readonly Context[] {
    return [...this.open_];
  }

  /** True where `file` is an open /dev/iommu of this module. */
  static isIommufd(file: DeviceFile): file is IommufdFile {
    return file instanceof IommufdFile;
  }
}
