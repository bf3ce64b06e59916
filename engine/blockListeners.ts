// Several listeners of one prefix index as one: each hears everything, in the order of the list.
import type { BlockListener } from './tiers/port.ts';

/** undefined: there are none. */
export function joinListeners(listeners: readonly (BlockListener | undefined)[]): BlockListener | undefined {
  const present = listeners.filter((listener) => listener !== undefined);
  if (present.length <= 1) return present[0];
  return {
    stored: (...told) => {
      for (const listener of present) listener.stored(...told);
    },
    removed: (...told) => {
      for (const listener of present) listener.removed(...told);
    },
  };
}
