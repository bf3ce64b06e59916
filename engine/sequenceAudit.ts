// The scheduler's self-check: what every sequence's counts and state must be, wherever it is. For tests and debugging.
import { invariant } from './invariant.ts';
import type { Sequence } from './sequence.ts';

/** Throws InvariantViolation where a sequence contradicts itself. `loading`: how many are counted as waiting for blocks. */
export function auditCounts(running: Iterable<Sequence>, waiting: Iterable<Sequence>, loading: number): void {
  let loads = 0;
  for (const { computed, scheduled, drawn, drafted, expectedLength, load, state, table } of running) {
    invariant(table !== null, 'who runs holds blocks', { state });
    invariant((state === 'loading') === (load !== null), 'who loads has a load', { state });
    invariant(computed <= scheduled && scheduled <= expectedLength && drawn >= 0, 'counts are in order', {
      computed,
      scheduled,
      expectedLength,
      drawn,
    });
    invariant(drafted === 0 || (drawn === 1 && scheduled === computed + 1), 'a draft hangs on one decode in flight', {
      drafted,
      drawn,
    });
    if (load) loads += 1;
  }
  invariant(loads === loading, 'loads are counted', { loads, loading });
  for (const { computed, scheduled, drawn, drafted, drafter, table, load, state } of waiting) {
    invariant(!table && !load && !drafter, 'who waits holds nothing', { state });
    invariant(computed + scheduled + drawn + drafted === 0, 'who waits is in no step', { state });
  }
}
