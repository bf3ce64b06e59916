// A router's picture of a pool's prefix caches, made of nothing but kv-events, which must always make sense: what is removed was
// there, what is stored is new and continues something that is there.
import { invariant } from '../../engine/invariant.ts';
import type { KvEvent } from '../../pool/wire/kvEvents.ts';

export class KvReplica {
  /** Parent of each block that is there, null for the first of a namespace. */
  readonly blocks = new Map<string, string | null>();
  readonly scopes = new Map<string, string>();
  epoch = '';
  /** To go on from; -1: begin anew. */
  sequence = -1;
  caughtUp = 0;
  clears = 0;

  apply(event: KvEvent): void {
    if (event.type === 'all_cleared') {
      this.blocks.clear();
      this.scopes.clear();
      this.epoch = event.epoch;
      this.sequence = -1;
      this.clears += 1;
      return;
    }
    if (event.type === 'caught_up') this.caughtUp += 1;
    else if (event.type === 'removed')
      for (const id of event.ids) invariant(this.blocks.delete(id), 'what is removed was there', { id });
    else {
      let { parent } = event;
      invariant(parent === null || this.blocks.has(parent), 'what is stored continues what is there', { parent });
      for (const id of event.ids) {
        invariant(!this.blocks.has(id), 'what is stored is new', { id });
        this.blocks.set(id, parent);
        this.scopes.set(id, event.scope);
        parent = id;
      }
    }
    this.sequence = event.sequence;
  }

  /** Leading blocks of a prompt, by the ids that a router computes for it. */
  leading(ids: readonly string[]): number {
    const missing = ids.findIndex((id) => !this.blocks.has(id));
    return missing === -1 ? ids.length : missing;
  }
}
