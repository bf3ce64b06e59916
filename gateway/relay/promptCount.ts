// Exact prompt counts from a pool, remembered by digest: an agent that sends one long prompt again and again is counted once. Only
// digests are kept, never text.
import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { ServedModel } from '../../pool/wire/events.ts';
import { boundOf, type PromptBound } from './bound.ts';
import type { Inference, PoolClient } from './poolClient.ts';

/** Prompts remembered: a few hundred bytes each. */
const MAX_COUNTS = 10_000;

export class PromptCounts {
  readonly #counts = new LRUCache<string, readonly number[]>({ max: MAX_COUNTS });

  /** Throws PoolRequestError when the pool doesn't count. */
  async exact(client: PoolClient, model: ServedModel, inference: Inference): Promise<PromptBound> {
    const question =
      inference.kind === 'chat'
        ? { model: model.id, messages: inference.request.messages }
        : { model: model.id, prompt: inference.request.prompt };
    // The fingerprint stands for the tokeniser and the template.
    const digest = createHash('sha256')
      .update(JSON.stringify([model.fingerprint, question]))
      .digest('base64');
    const known = this.#counts.get(digest);
    if (known) return boundOf(known, true);
    const counted = await client.count(question);
    this.#counts.set(digest, counted);
    return boundOf(counted, true);
  }
}
