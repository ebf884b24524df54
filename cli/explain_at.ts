// SPDX-License-Identifier: Apache-2.0
import { HostError } from '../host/host_error.ts';
import type { Observer } from '../host/observer.ts';
import { explain } from '../src/machine/explain.ts';
import type { Machine } from '../src/machine/machine.ts';
import { ioctlName } from './ioctl_names.ts';
import type { ExplainedAddress } from './run_arguments.ts';

/** Follows one address of a device: after each call that changes how it is translated, its way through the tables. */
export class ExplainAt {
  readonly observer: Observer = {
    called: (_pid, _fd, file, cmd) => this.#look(ioctlName(cmd, file)),
    accessed: (_pid, _fd, _file, { name }) => this.#look(name),
    closed: (file) => this.#look(`the close of ${file.name}`),
  };
  readonly #asked: ExplainedAddress;
  readonly #tell: (text: string) => void;
  #explain: (() => string[]) | undefined;
  #last: string | undefined;
  #changes = 0;

  constructor(asked: ExplainedAddress, tell: (text: string) => void) {
    this.#asked = asked;
    this.#tell = tell;
  }

  /** The machine is there, and no program yet. HostError where it has no such function. */
  begin(machine: Machine): void {
    const { device, pasid, address } = this.#asked;
    const { pciDevices } = machine;
    const fn = device === undefined ? pciDevices[0] : pciDevices.find(({ bdf }) => bdf === device);
    if (!fn) {
      const all = pciDevices.map(({ bdf }) => bdf).join(', ') || 'none';
      const what =
        device === undefined ? 'the machine has no PCI function' : `there is no function ${device}`;
      throw new HostError(`${what} to explain; those of the machine: ${all}`);
    }
    this.#explain = () => explain(machine, fn.bdf, pasid, address);
    this.#last = this.#explain().join('\n');
  }

  /** The run is over: something is said in any case. */
  finish(): void {
    if (this.#changes > 0 || !this.#explain) return;
    this.#tell('no call of the program has changed it:');
    for (const line of this.#explain()) this.#tell(`    ${line}`);
  }

  #look(after: string): void {
    const lines = this.#explain?.() ?? [];
    const text = lines.join('\n');
    if (text === this.#last) return;
    this.#last = text;
    this.#changes++;
    this.#tell(`after ${after}:`);
    for (const line of lines) this.#tell(`    ${line}`);
  }
}
