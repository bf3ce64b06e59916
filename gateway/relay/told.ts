// What a request's client side has been told, event by event: it decides whether the next one follows, and it is what another pool needs to
// go on from there. Ids are kept, no text: the pool that goes on makes of them again what it holds back of stop strings and characters.
// Bounded by a share of a byte budget; where that is spent, the request just can't go on elsewhere.
import { type FinishReason, type PoolEvent, positionsOf, type Usage } from '../../pool/wire/events.ts';
import type { Resume } from '../../pool/wire/inference.ts';
import type { Share } from '../byteBudget.ts';
import type { Released } from '../ledger/bill.ts';
import type { Inference, PoolInference } from './poolClient.ts';

type Event<T extends PoolEvent['type']> = Extract<PoolEvent, { type: T }>;

/** Of all requests together: an isolate has 128 MB for everything. */
export const MAX_TOLD_BYTES_AT_ONCE = 32 * 1024 * 1024;
/** A number in an array. */
const BYTES_PER_ID = 8;

interface ToldChoice {
  count: number;
  ids: number[];
  finish: FinishReason | null;
}

export class Told {
  readonly #choices: ToldChoice[] = [];
  readonly #share: Share;
  #kept = true;
  #prompts: readonly (readonly number[])[] | null = null;
  #promptTokens = 0;
  /** Per prompt: tokens that it has, and those that were told with text or logprob. */
  #lengths: number[] = [];
  #echoed: number[] = [];
  #usage: Usage | null = null;

  constructor(choices: number, share: Share) {
    for (let i = 0; i < choices; i++) this.#choices.push({ count: 0, ids: [], finish: null });
    this.#share = share;
  }

  /** The pool has taken the request. What goes on elsewhere from here has to be of the same fingerprint. */
  get begun(): boolean {
    return this.#prompts !== null;
  }

  /** False where another prompt was told before. */
  prompt({ prompts, prompt_tokens }: Event<'prompt'>): boolean {
    if (this.#prompts) return (prompt_tokens ?? 0) === this.#promptTokens;
    this.#prompts = prompts;
    this.#promptTokens = prompt_tokens ?? 0;
    this.#lengths = prompts.map(({ length }) => length);
    this.#echoed = prompts.map(() => 0);
    this.#keep(prompts.reduce((sum, ids) => sum + ids.length, 0));
    return true;
  }

  /** False where the prompt has no such tokens, or they were told before. */
  promptLogprobs({ prompt, tokens }: Event<'prompt_logprobs'>): boolean {
    const echoed = (this.#echoed[prompt] ?? 0) + tokens.length;
    if (echoed > (this.#lengths[prompt] ?? -1)) return false;
    this.#echoed[prompt] = echoed;
    return true;
  }

  /** `first`: it brought the request's first token. null: it does not go on where its choice stands. */
  delta(event: Event<'delta'>): { first: boolean } | null {
    const { choice: index, ids, position, finish_reason, usage } = event;
    const choice = this.#choices[index];
    const released = positionsOf(event);
    if (!this.begun || !choice || choice.finish || (released > 0 && position !== choice.count)) return null;
    const first = released > 0 && this.#choices.every(({ count }) => count === 0);
    choice.count += released;
    choice.finish = finish_reason ?? null;
    this.#usage = usage;
    this.#keep(ids.length);
    if (this.#kept) choice.ids.push(...ids);
    return { first };
  }

  /** null: nothing that would cost anything. */
  get released(): Released | null {
    const positions = this.#choices.map(({ count }) => count);
    if (positions.every((count) => count === 0)) return null;
    return {
      inputTokens: this.#promptTokens,
      cachedInputTokens: Math.min(this.#promptTokens, this.#usage?.cached_tokens ?? 0),
      positions,
    };
  }

  /** For a pool whose model has this fingerprint; null: there was no room to remember it, or it is of an engine that tells no ids. */
  resume(fingerprint: string): Resume | null {
    if (!this.#kept || !this.#prompts?.length) return null;
    const { cached_tokens = 0, accepted_prediction_tokens, rejected_prediction_tokens } = this.#usage ?? {};
    return {
      fingerprint,
      prompts: this.#prompts.map((ids) => [...ids]),
      choices: this.#choices.map(({ ids, finish }) => ({ ids, finish_reason: finish })),
      prompt_logprobs: this.#echoed,
      usage: {
        cached_tokens,
        ...(accepted_prediction_tokens !== undefined && { accepted_prediction_tokens }),
        ...(rejected_prediction_tokens !== undefined && { rejected_prediction_tokens }),
      },
    };
  }

  #keep(ids: number): void {
    if (!this.#kept || this.#share.take(ids * BYTES_PER_ID)) return;
    this.#kept = false;
    this.#share.release();
    this.#prompts = [];
    for (const choice of this.#choices) choice.ids = [];
  }
}

/** The request as another pool goes on with it. Its ids stand for the prompt, which sent beside them could be more bytes than a pool takes. */
export function resumed(inference: Inference, resume: Resume): PoolInference {
  if (inference.kind === 'chat') {
    const messages = [{ role: 'user' as const, content: '' }];
    return { kind: 'chat', request: { ...inference.request, messages, resume } };
  }
  return { kind: 'completion', request: { ...inference.request, prompt: resume.prompts.map(() => ''), resume } };
}
