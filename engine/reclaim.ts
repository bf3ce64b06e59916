// Who must yield so that a tenant below its share can start. All slots or blocks may be taken by tenants who came when nobody else
// wanted them; waiting until their requests end would make everybody's first token depend on the length of theirs. A tenant's usage is
// the larger of its part of the slots and its part of the blocks (dominant resource). A candidate that stays within its share
// may take from whoever is over theirs: the sequences with the least to recompute, which go back to the queue and keep their tokens.
// Source: Ghodsi et al., "Dominant Resource Fairness" (NSDI'11).
import { blocksFor } from './blockManager.ts';
import type { Sequence } from './sequence.ts';

/** A sequence yields once for another tenant's share: so what is recomputed for fairness is bounded. */
const MAX_YIELDS = 1;

export interface Capacity {
  maxRunning: number;
  blocks: number;
  /** Blocks that can be had now. */
  availableBlocks: number;
  /** Sum of the weights of all tenants with a sequence that lives. */
  activeWeight: number;
}

export class Shares {
  readonly #capacity: Capacity;
  readonly #running: readonly Sequence[];
  readonly #slots = new Map<string, number>();
  readonly #blocks = new Map<string, number>();

  constructor(running: readonly Sequence[], capacity: Capacity) {
    this.#capacity = capacity;
    this.#running = running;
    for (const sequence of running) this.#count(sequence, 1);
  }

  /** Usage of the sequence's tenant, had it `slots` and `blocks` more, over its share: above 1 is more than its share. */
  #usage({ request: { tenant, weight } }: Sequence, slots: number, blocks: number): number {
    const { maxRunning, blocks: capacity, activeWeight } = this.#capacity;
    const used = Math.max(
      ((this.#slots.get(tenant) ?? 0) + slots) / maxRunning,
      ((this.#blocks.get(tenant) ?? 0) + blocks) / capacity,
    );
    return used / (weight / Math.max(weight, activeWeight));
  }

  /** Whether the tenant stays within its share with this sequence. A tenant with nothing running is entitled to one slot in any case. */
  entitled(sequence: Sequence): boolean {
    const blocks = blocksFor(sequence.length);
    if (this.#usage(sequence, 1, blocks) <= 1) return true;
    return !this.#slots.has(sequence.request.tenant) && this.#usage(sequence, 0, blocks) <= 1;
  }

  /**
   * Running sequences that make room for the candidate, or null when there is no room to be had fairly. `recompute`: what a sequence
   * would have to compute again. A tenant stays with at least one sequence, and over its share, until it yields the last.
   */
  yielding(candidate: Sequence, recompute: (sequence: Sequence) => number): Sequence[] | null {
    const { maxRunning, availableBlocks } = this.#capacity;
    const blocks = blocksFor(candidate.length);
    const victims: Sequence[] = [];
    let available = availableBlocks;
    for (;;) {
      const left = this.#running.length - victims.length;
      if (left < maxRunning && available >= blocks + left) return victims;
      const victim = this.#most(candidate, victims, recompute);
      if (!victim) return null;
      victims.push(victim);
      this.#count(victim, -1);
      available += victim.table?.length ?? 0;
    }
  }

  /** Of the tenant furthest over its share, the sequence with the least to recompute. */
  #most(
    candidate: Sequence,
    taken: readonly Sequence[],
    recompute: (sequence: Sequence) => number,
  ): Sequence | undefined {
    let best: Sequence | undefined;
    let bestUsage = 1;
    let bestCost = 0;
    for (const sequence of this.#running) {
      if (sequence.preemptions >= MAX_YIELDS || sequence.request.tenant === candidate.request.tenant) continue;
      const usage = this.#usage(sequence, 0, 0);
      if (usage < bestUsage || usage <= 1 || (this.#slots.get(sequence.request.tenant) ?? 0) < 2) continue;
      if (taken.includes(sequence)) continue;
      const cost = recompute(sequence);
      if (best && usage === bestUsage && (cost > bestCost || (cost === bestCost && sequence.arrival < best.arrival)))
        continue;
      best = sequence;
      bestUsage = usage;
      bestCost = cost;
    }
    return best;
  }

  #count({ request: { tenant }, table }: Sequence, sign: 1 | -1): void {
    this.#slots.set(tenant, (this.#slots.get(tenant) ?? 0) + sign);
    this.#blocks.set(tenant, (this.#blocks.get(tenant) ?? 0) + sign * (table?.length ?? 0));
  }
}
