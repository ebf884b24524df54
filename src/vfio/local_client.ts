// SPDX-License-Identifier: Apache-2.0
import * as vfio from '../abi/vfio.ts';
import type { StructType, Values } from '../abi/struct.ts';
import { errnoName, ErrnoError, type ErrnoName } from '../base/errno.ts';
import type { EventFd, IoctlResult } from '../kernel/file.ts';
import type { LocalProcess } from '../kernel/local_process.ts';
import { PAGE_SIZE } from '../memory/mm.ts';
import type { VfioCdev } from './cdev.ts';
import type { VfioDeviceFile } from './device_file.ts';
import { regionOffset } from './regions.ts';

/** The structure of each ioctl that has one. */
const structs = {
  VFIO_DEVICE_GET_INFO: vfio.vfio_device_info,
  VFIO_DEVICE_GET_REGION_INFO: vfio.vfio_region_info,
  VFIO_DEVICE_GET_IRQ_INFO: vfio.vfio_irq_info,
  VFIO_DEVICE_SET_IRQS: vfio.vfio_irq_set,
  VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: vfio.vfio_pci_hot_reset_info,
  VFIO_DEVICE_PCI_HOT_RESET: vfio.vfio_pci_hot_reset,
  VFIO_DEVICE_IOEVENTFD: vfio.vfio_device_ioeventfd,
  VFIO_DEVICE_FEATURE: vfio.vfio_device_feature,
  VFIO_DEVICE_BIND_IOMMUFD: vfio.vfio_device_bind_iommufd,
  VFIO_DEVICE_ATTACH_IOMMUFD_PT: vfio.vfio_device_attach_iommufd_pt,
  VFIO_DEVICE_DETACH_IOMMUFD_PT: vfio.vfio_device_detach_iommufd_pt,
} as const;

const numbers: Readonly<Record<keyof typeof structs, number>> = { ...vfio };

type Structs = typeof structs;
type ShapeOf<T> = T extends StructType<infer S> ? S : never;
type FieldsOf<N extends keyof Structs> = Partial<Values<ShapeOf<Structs[N]>>>;

/** Structures are sent from pages of their own, high in the address space and apart from those of /dev/iommu's client. */
const SCRATCH = 0x7ffe_0000_0000n;
const SCRATCH_BYTES = 4 * PAGE_SIZE;

/** An eventfd of a client that lives in this program: counts what it was signalled, unless somebody waits for that. */
export class LocalEventFd {
  readonly kind = 'eventfd';
  /** Signals since it was made. */
  count = 0;
  /** References that others hold. */
  held = 0;
  readonly #told = new Set<() => void>();

  /** The client signals it. */
  write(): void {
    if (this.#told.size === 0) this.count++;
    for (const told of this.#told) told();
  }

  hold(): EventFd {
    this.held++;
    let own: (() => void) | undefined;
    return {
      signal: () => void this.count++,
      watch: (told) => {
        own = told;
        this.#told.add(told);
        if (this.count === 0) return;
        this.count = 0;
        told();
      },
      close: () => {
        if (own) this.#told.delete(own);
        this.held--;
      },
    };
  }
}

/** A VFIO device in process: the calls of a client as functions. */
export class LocalVfioClient {
  readonly process: LocalProcess;
  readonly file: VfioDeviceFile;
  /** The descriptor of {@link file} in {@link process}. */
  readonly fd: number;

  constructor(cdev: VfioCdev, process: LocalProcess) {
    this.process = process;
    this.file = cdev.openDevice(process);
    this.fd = process.add({ kind: 'device', file: this.file });
    if (!process.mm.mappingAt(SCRATCH)) process.mm.map(SCRATCH, SCRATCH_BYTES);
  }

  /**
   * Makes a call; never throws for an errno. `argsz` is that of the structure and its tail unless told.
   * @param tail what follows the structure
   */
  tryCall<N extends keyof Structs>(
    name: N,
    fields: FieldsOf<N>,
    tail: Uint8Array = new Uint8Array(),
  ): { readonly result: IoctlResult; readonly reply: Values<ShapeOf<Structs[N]>> } {
    const type = structs[name] as unknown as StructType<unknown>;
    // A flexible array begins where the last fixed field ends, which padding can be behind.
    const last = type.fields.at(-1);
    const end = last?.type.size === 0 ? last.offset : type.size;
    const bytes = new Uint8Array(Math.max(type.size, end + tail.length));
    const view = new DataView(bytes.buffer);
    type.write(view, 0, { argsz: end + tail.length, ...fields });
    bytes.set(tail, end);
    this.process.mm.copyOut(SCRATCH, bytes);
    const result = this.file.ioctl(this.process, numbers[name], SCRATCH);
    this.process.mm.copyIn(SCRATCH, bytes);
    return { result, reply: type.on(view) as never };
  }

  /**
   * Makes a call and answers the structure as it came back.
   * @throws ErrnoError as the ioctl would fail, with the sentence that says why
   */
  call<N extends keyof Structs>(
    name: N,
    fields: FieldsOf<N>,
    tail?: Uint8Array,
  ): Values<ShapeOf<Structs[N]>> {
    const { result, reply } = this.tryCall(name, fields, tail);
    if (result.value < 0) throw errnoOf(result.value, result.why);
    return reply;
  }

  /** VFIO_DEVICE_RESET. Throws ErrnoError. */
  reset(): void {
    const { value, why } = this.file.ioctl(this.process, vfio.VFIO_DEVICE_RESET, 0n);
    if (value < 0) throw errnoOf(value, why);
  }

  /** VFIO_DEVICE_SET_IRQS with the eventfds of `fds` for vectors from `start` on. */
  setEventFds(index: number, fds: readonly number[], start = 0): void {
    const flags = vfio.VFIO_IRQ_SET_DATA_EVENTFD | vfio.VFIO_IRQ_SET_ACTION_TRIGGER;
    const tail = new Uint8Array(Int32Array.from(fds).buffer);
    this.call('VFIO_DEVICE_SET_IRQS', { flags, index, start, count: fds.length }, tail);
  }

  /** Reads a region; as many bytes as there were. Throws ErrnoError. */
  read(region: number, offset: number, bytes: number): Uint8Array {
    const into = new Uint8Array(bytes);
    const done = this.file.pread(this.process, regionOffset(region) + BigInt(offset), into);
    if (done < 0) throw errnoOf(done, this.file.refusal);
    return into.subarray(0, done);
  }

  /** Writes a region; the number of bytes written. Throws ErrnoError. */
  write(region: number, offset: number, bytes: Uint8Array): number {
    const done = this.file.pwrite(this.process, regionOffset(region) + BigInt(offset), bytes);
    if (done < 0) throw errnoOf(done, this.file.refusal);
    return done;
  }

  /** A register of up to 8 bytes, little endian. */
  get(region: number, offset: number, width = 4): bigint {
    const bytes = this.read(region, offset, width);
    return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
  }

  set(region: number, offset: number, value: bigint, width = 4): void {
    const bytes = Uint8Array.from({ length: width }, (_, i) =>
      Number((value >> BigInt(8 * i)) & 0xffn),
    );
    this.write(region, offset, bytes);
  }

  /** Closes the descriptor. */
  close(): void {
    this.process.close(this.fd);
  }
}

const errnoOf = (value: number, why: string): ErrnoError =>
  new ErrnoError(errnoName(-value) as ErrnoName, why);
