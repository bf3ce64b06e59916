// What a foreign engine's stream costs, counted on the way so that a break loses nothing, and corrected at the end. The rules of the bill:
//
// - Output: ids that a chunk brings, or else its choice's running total, or else its logprobs: exact. A chunk with text alone is one
//   token, which is what it proves; its stream is an estimate until usage comes.
// - Prompt: what the stream, the engine's tokeniser or, at the end, the usage of one more token tells. Until then it is unknown: never a bound.
// - Usage at the end stands in the place of all that was counted, as far as the hold goes.
// - Nothing past a choice's bound or the hold is released: its choice ends there.
import { invariant } from '../../engine/invariant.ts';
import type { FinishReason, Usage } from '../wire/events.ts';
import type { Chunk, Said, UpstreamUsage } from './chunk.ts';

export interface TallyBounds {
  prompts: number;
  choices: number;
  /** Output tokens per choice. */
  maxTokens: number;
  /** Prompt and all output. */
  holdTokens: number;
}

/** What of a chunk may leave. */
export interface Released extends Said {
  /** Output position of the first. */
  position: number;
  /** Ids of the positions; empty where they are not known. */
  ids: number[];
  count: number;
}

export class Tally {
  readonly #bounds: TallyBounds;
  readonly #released: number[];
  readonly #finish: (FinishReason | null)[];
  #prompt: number | null = null;
  #cached = 0;
  /** Every position so far was counted, not concluded. */
  #exact = true;
  #final = false;
  #cut = false;

  constructor(bounds: TallyBounds) {
    invariant(bounds.maxTokens >= 1 && bounds.choices >= bounds.prompts, 'each choice has room', { ...bounds });
    this.#bounds = bounds;
    this.#released = Array.from({ length: bounds.choices }, () => 0);
    this.#finish = Array.from({ length: bounds.choices }, () => null);
  }

  /** null: nobody has told yet. */
  get promptTokens(): number | null {
    return this.#prompt;
  }

  get choices(): readonly number[] {
    return this.#released;
  }

  /** All choices have ended. */
  get complete(): boolean {
    return this.#finish.every((finish) => finish !== null);
  }

  /** A choice was ended here: what the engine goes on with is not wanted. */
  get cut(): boolean {
    return this.#cut;
  }

  /** Some of it would be an estimate if the stream ended now. */
  get estimated(): boolean {
    return !this.#final && (!this.#exact || this.#prompt === null);
  }

  get usage(): Usage {
    return {
      prompt_tokens: this.#prompt ?? 0,
      cached_tokens: Math.min(this.#cached, this.#prompt ?? 0),
      completion_tokens: this.#total,
    };
  }

  /** The prompt's tokens, by whoever knows them. */
  notePrompt(tokens: number): void {
    if (!this.#final) this.#prompt = this.#withinHold(tokens);
  }

  /** What may leave of a chunk. */
  accept({ said, counts, usage }: Chunk): Released[] {
    // A chunk of one prompt among several tells of that one alone.
    if (counts.prompt !== undefined && this.#bounds.prompts === 1) this.notePrompt(counts.prompt);
    if (counts.cached !== undefined && this.#bounds.prompts === 1) this.#cached = counts.cached;
    const released = said.flatMap((one) => this.#release(one, said.length === 1 ? counts : {}) ?? []);
    const whole = said.length === 0 || (this.#bounds.choices === 1 && said.some(({ finish }) => finish !== null));
    if (usage && whole) this.#settle(usage);
    return released;
  }

  get #total(): number {
    return this.#released.reduce((sum, one) => sum + one, 0);
  }

  #release(said: Said, { ids, total }: Chunk['counts']): Released | null {
    const { choice, text, logprobs, finish } = said;
    const position = this.#released[choice];
    // Of a choice that nobody asked for, or after its end: not wanted, and not counted.
    if (position === undefined || this.#finish[choice] !== null) return null;
    const known = ids?.length ?? (total === undefined ? logprobs?.length : Math.max(0, total - position));
    if (known === undefined && text !== '') this.#exact = false;
    // The last text may be the rest of a token that was counted before.
    const count = known ?? (text !== '' && finish === null ? 1 : 0);
    const room = this.#bounds.holdTokens - (this.#prompt ?? this.#bounds.prompts) - this.#total;
    if (count > Math.min(room, this.#bounds.maxTokens - position)) return this.#end(choice, position);
    this.#released[choice] = position + count;
    this.#finish[choice] = finish;
    return { ...said, position, ids: ids ?? [], count };
  }

  #end(choice: number, position: number): Released {
    this.#finish[choice] = 'length';
    this.#cut = true;
    return { choice, position, ids: [], count: 0, text: '', logprobs: null, finish: 'length' };
  }

  /** The engine's last word: which choice has how many of them is as it was counted, as far as that goes. */
  #settle({ prompt, cached, completion }: UpstreamUsage): void {
    if (this.#cut) return; // it counts what was not released
    const { choices, maxTokens, holdTokens } = this.#bounds;
    this.#final = true;
    let differs = Math.min(completion, choices * maxTokens, holdTokens - 1) - this.#total;
    for (let choice = 0; choice < choices && differs !== 0; choice++) {
      const before = this.#released[choice] ?? 0;
      const after = Math.max(0, Math.min(maxTokens, before + differs));
      this.#released[choice] = after;
      differs -= after - before;
    }
    this.#prompt = this.#withinHold(prompt);
    this.#cached = cached;
  }

  #withinHold(prompt: number): number {
    return Math.min(prompt, this.#bounds.holdTokens - this.#total);
  }
}
