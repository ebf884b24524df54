// SPDX-License-Identifier: Apache-2.0
import type { Observer } from '../host/observer.ts';
import { objectsHeldBy } from './held_objects.ts';
import type { Printer } from './strace/printer.ts';
import type { Summary } from './summary/summary.ts';

/** Prints each event as it happens. Files that ioctls make are recorded from their first call on. */
export const tracing = (printer: Printer): Observer => ({
  opened: (pid, path, value, file, why) => {
    if (file) file.recording = true;
    printer.opened(pid, path, { value, why });
  },
  called: (pid, fd, _file, cmd, arg, result) => printer.called(pid, { fd, cmd, arg, result }),
  closed: (file) => printer.closed(file.name, objectsHeldBy(file)),
  other: (pid, text) => printer.other(pid, text),
});

/** Counts each event. */
export const counting = (summary: Summary): Observer => ({
  opened: (pid, _path, _value, file) => {
    if (file) summary.opened(pid, file);
  },
  called: (pid, _fd, file, cmd, _arg, { value }, micros) =>
    summary.called(pid, file, cmd, value, micros),
  closed: (file) => summary.closed(file, objectsHeldBy(file)),
});

/** Tells all of them, in their order. */
export const all = (observers: readonly Observer[]): Observer => ({
  opened: (...event) => observers.forEach((each) => each.opened?.(...event)),
  called: (...event) => observers.forEach((each) => each.called?.(...event)),
  closed: (...event) => observers.forEach((each) => each.closed?.(...event)),
  other: (...event) => observers.forEach((each) => each.other?.(...event)),
});
