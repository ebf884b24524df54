// SPDX-License-Identifier: Apache-2.0
import type { DmaResult, Initiator, InitiatorCapability } from '../../src/kernel/hardware.ts';
import { FRAME_SIZE } from '../../src/memory/frame.ts';
import type { Ram } from '../../src/memory/ram.ts';
import { HostError } from '../host_error.ts';
import type { QemuHardware } from './hardware.ts';
import type { PciConfig } from './pci_config.ts';
import { Qtest } from './qtest.ts';
import { hasRefused } from './refusals.ts';

/** Registers. Source: QEMU docs/specs/edu.rst. */
const [SOURCE, DESTINATION, COUNT, COMMAND] = [0x80, 0x88, 0x90, 0x98];
const START = 1n;
const TO_MEMORY = 2n;
/** Where its buffer is, as its own addresses have it. */
const BUFFER = 0x4_0000n;
export const EDU_BUFFER_BYTES = 4096;
/** After this time of the virtual clock a transfer is done. */
const TRANSFER_NS = 100_000_000;

/**
 * QEMU's educational device: moves bytes between memory and a buffer of its own, which nobody else can see. So `dmaRead` and `dmaWrite`
 * bring the bytes through a page that the device reaches under the same rules as all others (`bounce`); who only wants to know whether
 * an access is done uses `load` and `store`.
 */
export class Edu implements Initiator {
  readonly sourceId: number;
  readonly capabilities: ReadonlySet<InitiatorCapability> = new Set(['dmaRead', 'dmaWrite']);
  /** A page that is mapped for the device, readable and writable, at `iova`. */
  bounce: { readonly iova: bigint; readonly frame: number } | undefined = undefined;
  readonly #qtest: Qtest;
  readonly #hardware: QemuHardware;
  readonly #ram: Ram;
  readonly #bar: number;

  constructor(config: PciConfig, bar: number, qtest: Qtest, hardware: QemuHardware) {
    this.sourceId = config.sourceId;
    this.#bar = bar;
    this.#qtest = qtest;
    this.#hardware = hardware;
    this.#ram = hardware.mem.ram;
  }

  /** Fills the start of its buffer from memory. What was refused leaves the buffer undefined. */
  load(address: bigint, bytes: number): DmaResult {
    return this.#transfer(address, BUFFER, bytes, START);
  }

  /** Writes the start of its buffer to memory. */
  store(address: bigint, bytes: number): DmaResult {
    return this.#transfer(BUFFER, address, bytes, START | TO_MEMORY);
  }

  dmaRead(address: bigint, into: Uint8Array): DmaResult {
    const { iova, bytes } = this.#bounce(into.length);
    const done = this.load(address, into.length);
    if (!done.ok) return done;
    if (!this.store(iova, into.length).ok) throw unusable(iova);
    into.set(bytes);
    return done;
  }

  dmaWrite(address: bigint, from: Uint8Array): DmaResult {
    const { iova, bytes } = this.#bounce(from.length);
    bytes.set(from);
    if (!this.load(iova, from.length).ok) throw unusable(iova);
    return this.store(address, from.length);
  }

  #bounce(length: number): { iova: bigint; bytes: Uint8Array } {
    if (!this.bounce) throw new HostError('edu has no page to bring bytes through');
    if (length > EDU_BUFFER_BYTES) throw new RangeError(`${length} bytes: its buffer has 4096`);
    const { iova, frame } = this.bounce;
    const start = this.#ram.bytes(frame, EDU_BUFFER_BYTES / FRAME_SIZE);
    return { iova, bytes: start.subarray(0, length) };
  }

  #transfer(source: bigint, destination: bigint, bytes: number, command: bigint): DmaResult {
    this.#hardware.takeLines();
    const at = this.#bar;
    const answers = this.#qtest.commands([
      Qtest.write64(at + SOURCE, source),
      Qtest.write64(at + DESTINATION, destination),
      Qtest.write64(at + COUNT, BigInt(bytes)),
      Qtest.write64(at + COMMAND, command),
      Qtest.step(TRANSFER_NS),
      Qtest.read64(at + COMMAND),
    ]);
    const left = BigInt(answers.at(-1) ?? '1') & START;
    if (left !== 0n) throw new HostError('edu did not end a transfer in its time');
    const ok = !hasRefused(this.#hardware.takeLines());
    return { ok, bytes: ok ? bytes : 0 };
  }
}

const unusable = (iova: bigint): HostError =>
  new HostError(`edu cannot reach the page for its bytes at 0x${iova.toString(16)}`);
