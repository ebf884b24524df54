// SPDX-License-Identifier: Apache-2.0
import type { Observer } from '../host/observer.ts';
import type { DeviceFile } from '../src/kernel/file.ts';
import { ioctlName } from './ioctl_names.ts';
import { objectsHeldBy } from './held_objects.ts';
import type { DmaObserver } from '../src/pci/dma.ts';
import { dmaText } from '../src/pci/dma_text.ts';
import { groupResponseText, pageRequestText } from '../src/pci/page_request_text.ts';
import type { Printer } from './strace/printer.ts';
import type { Summary } from './summary/summary.ts';

/**
 * What files hold when they are released. The supervisor tells of a close when the file has been released already, so
 * the last look at it is taken on the way.
 */
export class LastLooks {
  readonly #held = new WeakMap<DeviceFile, string>();

  watch(file: DeviceFile): void {
    const release = file.release.bind(file);
    file.release = () => {
      this.#held.set(file, objectsHeldBy(file));
      release();
    };
  }

  /** The objects that a released file held; empty for a file that was never watched. */
  of(file: DeviceFile): string {
    return this.#held.get(file) ?? '';
  }
}

/** Prints each event as it happens. */
export const tracing = (printer: Printer, looks: LastLooks): Observer => ({
  opened: (pid, path, value, file, why) => {
    if (file) file.recording = true;
    printer.opened(pid, path, { value, why });
  },
  called: (pid, fd, _file, cmd, arg, result) => printer.called(pid, { fd, cmd, arg, result }),
  accessed: (pid, fd, file, access) => printer.accessed(pid, fd, file, access),
  signalled: (_pid, fd) => printer.afterwards(`interrupt: eventfd ${fd} is signalled`),
  injected: ({ nth, kind, difference }) => {
    const trace = difference === '' ? '' : `, which left a trace: ${difference}`;
    printer.afterwards(`fault point ${nth} (${kind}) was made to fail${trace}`);
  },
  closed: (file) => printer.closed(file.name, looks.of(file)),
  other: (pid, text) => printer.other(pid, text),
});

/** Prints each DMA, after the call that made the device do it. */
export const watching = (printer: Printer): DmaObserver => ({
  dma: (event) => printer.afterwards(dmaText(event)),
  pageRequest: (...event) => printer.afterwards(pageRequestText(...event)),
  groupResponse: (...event) => printer.afterwards(groupResponseText(...event)),
  driverMistake: (bdf, text) => printer.afterwards(`${bdf}: ${text}`),
});

/** Counts each event. */
export const counting = (summary: Summary, looks: LastLooks): Observer => ({
  opened: (pid, _path, _value, file) => {
    if (file) summary.opened(pid, file);
  },
  called: (pid, _fd, file, cmd, _arg, { value }, micros) =>
    summary.called(pid, file, ioctlName(cmd, file), value, micros),
  accessed: (pid, _fd, file, { name, result }, micros) =>
    summary.called(pid, file, name, result, micros),
  closed: (file) => summary.closed(file, looks.of(file)),
});

/** Tells all of them, in their order, and takes the last looks. */
export const all = (observers: readonly Observer[], looks: LastLooks): Observer => ({
  opened: (...event) => {
    const [, , , file] = event;
    if (file) looks.watch(file);
    for (const each of observers) each.opened?.(...event);
  },
  called: (...event) => {
    for (const each of observers) each.called?.(...event);
  },
  accessed: (...event) => {
    for (const each of observers) each.accessed?.(...event);
  },
  signalled: (...event) => {
    for (const each of observers) each.signalled?.(...event);
  },
  injected: (event) => {
    for (const each of observers) each.injected?.(event);
  },
  closed: (file) => {
    for (const each of observers) each.closed?.(file);
  },
  other: (pid, text) => {
    for (const each of observers) each.other?.(pid, text);
  },
});
