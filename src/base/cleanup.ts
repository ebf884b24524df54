// SPDX-License-Identifier: Apache-2.0

/**
 * What to undo if the operation under way fails. Where Linux writes a ladder of labels at the end of a function, we
 * defer each undo next to what it undoes.
 */
export class Cleanup {
  readonly #undo: (() => void)[] = [];

  /** Adds an action to run, before those added earlier, if the scope fails. It must not fail itself. */
  defer(undo: () => void): void {
    this.#undo.push(undo);
  }

  /** From here on the operation stands: forgets every action added so far. */
  commit(): void {
    this.#undo.length = 0;
  }

  /**
   * Runs the actions, last added first, each once. All of them run even where one throws; that is a bug, reported
   * after the last as an AggregateError of what was thrown.
   */
  run(): void {
    const failures: unknown[] = [];
    for (let undo = this.#undo.pop(); undo !== undefined; undo = this.#undo.pop()) {
      try {
        undo();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) {
      throw new AggregateError(
        failures,
        `${failures.length} undo action(s) failed: ${String(failures[0])}`,
      );
    }
  }
}

/**
 * Runs `body` and returns its result; when it throws, undoes what it deferred and throws the same error. If an undo
 * action fails too, throws an AggregateError with both, so that neither is lost.
 */
export function withCleanup<T>(body: (cleanup: Cleanup) => T): T {
  const cleanup = new Cleanup();
  try {
    return body(cleanup);
  } catch (error) {
    try {
      cleanup.run();
    } catch (undoError) {
      throw new AggregateError(
        [error, undoError],
        `undoing after "${String(error)}" failed: ${String(undoError)}`,
        { cause: undoError },
      );
    }
    throw error;
  }
}
