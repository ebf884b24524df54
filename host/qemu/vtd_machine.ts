// SPDX-License-Identifier: Apache-2.0
import { FRAME_SIZE } from '../../src/memory/frame.ts';
import { Ram, type RamOptions } from '../../src/memory/ram.ts';
import { HostError } from '../host_error.ts';
import { Edu } from './edu.ts';
import { INTERRUPT_EVENT, QemuHardware } from './hardware.ts';
import { PciConfig } from './pci_config.ts';
import { QemuProcess } from './process.ts';
import type { QemuVersion } from './qmp.ts';
import { REFUSAL_LOG } from './refusals.ts';
import { TestDevice } from './test_device.ts';

/** Where a q35 has the registers of its VT-d unit. */
const VTD_BASE = 0xfed9_0000;
/** Where we put the BARs: the start of what a q35 has for PCI. */
const EDU_BAR = 0xe000_0000;
const TEST_BAR = 0xe010_0000;
const EDU = { slot: 3, sourceId: 0x18 };
const TEST = { slot: 2, sourceId: 0x10 };

const MACHINE_MIB = 2048;
/** Our part of the memory: from 1 GiB on, so that a page of 1 GiB can lie over it. */
export const VTD_RAM = { firstFrame: 2 ** 30 / FRAME_SIZE, frames: 2 ** 26 / FRAME_SIZE } as const;

const CHUNK_BYTES = 2 ** 22;

export interface QemuVtdOptions {
  readonly command: string;
  readonly args?: readonly string[];
  /** Options of the device `intel-iommu`: `scalable-mode=on`. */
  readonly unit?: readonly string[];
}

/** A QEMU with a VT-d unit and two devices behind it that can do DMA. */
export class QemuVtdMachine {
  readonly process: QemuProcess;
  hardware: QemuHardware;
  edu: Edu;
  test: TestDevice;
  /** What memory is made of: 4 MiB each, as far as it was used. */
  readonly #chunks: Uint32Array[] = [];
  readonly #configs: { readonly edu: PciConfig; readonly test: PciConfig };

  constructor(options: QemuVtdOptions) {
    const { command, args = [], unit = [] } = options;
    this.process = new QemuProcess({
      command,
      args,
      machine: 'q35',
      ramMiB: MACHINE_MIB,
      devices: [
        ['intel-iommu', ...unit].join(','),
        `edu,dma_mask=0xffffffffffffffff,addr=${EDU.slot}.0`,
        `iommu-testdev,addr=${TEST.slot}.0`,
      ],
      trace: [INTERRUPT_EVENT],
      log: REFUSAL_LOG,
    });
    try {
      const { qtest } = this.process;
      this.#configs = {
        edu: new PciConfig(qtest, EDU.sourceId),
        test: new PciConfig(qtest, TEST.sourceId),
      };
      [this.hardware, this.edu, this.test] = this.#fresh({});
      this.#enable();
      this.#checkTrace();
    } catch (error) {
      this.process.stop();
      throw error;
    }
  }

  get version(): QemuVersion {
    return this.process.qmp.version;
  }

  /** A machine that was just switched on: memory is zeroes, and nobody has any of it. What was got from here before is void. */
  powerOn(options: Pick<RamOptions, 'faults'> = {}): void {
    this.#reset();
    for (const chunk of this.#chunks) chunk.fill(0);
    [this.hardware, this.edu, this.test] = this.#fresh(options);
  }

  stop(): void {
    this.process.stop();
  }

  #fresh(options: Pick<RamOptions, 'faults'>): [QemuHardware, Edu, TestDevice] {
    const { qtest } = this.process;
    const ram = new Ram({ ...VTD_RAM, ...options, chunk: (index) => this.#chunk(index) });
    const hardware = new QemuHardware(this.process, {
      base: VTD_BASE,
      reset: () => this.#reset(),
      ram,
    });
    return [
      hardware,
      new Edu(this.#configs.edu, EDU_BAR, qtest, hardware),
      new TestDevice(this.#configs.test, TEST_BAR, qtest, hardware),
    ];
  }

  #chunk(index: number): Uint32Array {
    const offset = VTD_RAM.firstFrame * FRAME_SIZE + index * CHUNK_BYTES;
    return (this.#chunks[index] ??= new Uint32Array(this.process.ram.view(offset, CHUNK_BYTES)));
  }

  /** Memory keeps its bytes, and the devices can be used at once. */
  #reset(): void {
    this.process.reset();
    this.#enable();
  }

  #enable(): void {
    this.#configs.edu.enable(EDU_BAR);
    this.#configs.test.enable(TEST_BAR);
  }

  /** Refusals and interrupts are known from the trace: a QEMU that prints none would show neither. */
  #checkTrace(): void {
    const vector = 0x31;
    this.process.takeTrace();
    this.process.qtest.write32(0xfee0_0000, vector);
    const lines = this.process.takeTrace();
    const hasCome = lines.some((line) => line.includes(`vector ${vector} `));
    if (!hasCome) throw new HostError('this QEMU does not print its trace (log back end)');
  }
}
