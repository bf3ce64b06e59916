// The states of a model in its pool, and of the pool as a whole: one table of what may follow what. Both sides know them.
//
//   cold ─▶ loading ─▶ warm ─▶ asleep ─▶ waking ─▶ warm      warm: compiled, tuned, and a real token generated
//     ▲        ▲        │                                     asleep: weights in host memory, KV in the tiers, device memory given back
//     │        └─ lost ─┤                                     from anywhere: draining ─▶ stopped
//     └────── gone ─────┘                                     gone: an engine of another make, which runs somewhere else
import { z } from 'zod';

export const poolState = z.enum(['cold', 'loading', 'warm', 'asleep', 'waking', 'draining', 'stopped']);
export type PoolState = z.infer<typeof poolState>;

const NEXT: Readonly<Record<PoolState, readonly PoolState[]>> = {
  cold: ['loading', 'draining', 'stopped'],
  loading: ['warm', 'cold', 'draining', 'stopped'],
  // Its device was lost: it is loaded again. Or it runs elsewhere, and is gone.
  warm: ['asleep', 'loading', 'cold', 'draining', 'stopped'],
  asleep: ['waking', 'draining', 'stopped'],
  waking: ['warm', 'loading', 'draining', 'stopped'],
  draining: ['stopped'],
  stopped: [],
};

export function mayBecome(from: PoolState, to: PoolState): boolean {
  return NEXT[from].includes(to);
}

/** How soon a request to a model in this state is computed: 0 is at once; null, not at all. */
export function distanceToWarm(state: PoolState): 0 | 1 | 2 | null {
  if (state === 'warm') return 0;
  if (state === 'waking' || state === 'loading') return 1;
  return state === 'asleep' ? 2 : null;
}

/** The state of a whole whose parts are in these: that of the part that is nearest to warm. */
export function stateOfAll(states: readonly PoolState[]): PoolState {
  const distance = (state: PoolState) => distanceToWarm(state) ?? Number.POSITIVE_INFINITY;
  return states.reduce((best, state) => (distance(state) < distance(best) ? state : best), states[0] ?? 'cold');
}
