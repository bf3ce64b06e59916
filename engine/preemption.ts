// Who goes back to the queue when a decode needs a block and none is left: the sequence whose preemption wastes least. Bounded, so that no
// two preempt one another for ever: one preempted MAX_PREEMPTIONS times already only yields to an older one.
import { invariant } from './invariant.ts';
import type { Sequence } from './sequence.ts';

/** After so many preemptions a sequence yields only to older ones. */
const MAX_PREEMPTIONS = 2;

/** `waste`: what preempting a sequence costs. Of equals the youngest; with all of them preempted often enough, the youngest of all. */
export function preemptionVictim(running: readonly Sequence[], waste: (sequence: Sequence) => number): Sequence {
  const yielding = running.filter((sequence) => sequence.preemptions < MAX_PREEMPTIONS);
  let victim: Sequence | undefined;
  let least = 0;
  for (const sequence of yielding.length > 0 ? yielding : running) {
    const cost = yielding.length > 0 ? waste(sequence) : 0;
    if (victim && (cost > least || (cost === least && sequence.arrival < victim.arrival))) continue;
    victim = sequence;
    least = cost;
  }
  invariant(victim, 'who needs a block is running');
  return victim;
}
