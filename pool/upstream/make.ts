// What a make of engine server is, as far as it differs from the others: data and small pure functions, one file each in makes/. Nothing
// here sends or receives; the adapter around it is one for all. What a make has no word for is refused by name, never left out, since a
// parameter that is silently ignored is a wrong answer.
import type { ChatMessage } from '../wire/inference.ts';

/** Sampling parameters, and the value of each that changes nothing: what a request means that leaves it out. */
export const NEUTRAL_SAMPLING = {
  temperature: 1,
  top_p: 1,
  top_k: 0,
  min_p: 0,
  frequency_penalty: 0,
  presence_penalty: 0,
  repetition_penalty: 1,
} as const;
export type SamplingName = keyof typeof NEUTRAL_SAMPLING;

/** Of a make that has all of them, under the same names. */
export const NAMED_ALIKE: Readonly<Record<SamplingName, string>> = {
  temperature: 'temperature',
  top_p: 'top_p',
  top_k: 'top_k',
  min_p: 'min_p',
  frequency_penalty: 'frequency_penalty',
  presence_penalty: 'presence_penalty',
  repetition_penalty: 'repetition_penalty',
};

/** How tenants' prefixes are kept apart. */
export type CacheIsolation =
  /** By a salt in this field of the request; null: this kind of request has none. */
  | { kind: 'salt'; field: { chat: string; completion: string | null } }
  /** Not at all, but a request may do without the cache. */
  | { kind: 'switch'; on: object; off: object }
  /** Not at all. */
  | { kind: 'none' };

/** Names of gauges in the make's Prometheus text; null: it has none. */
export interface FigureNames {
  path: string;
  running: string | null;
  waiting: string | null;
  /** Share of the KV cache that is in use, 0 to 1. */
  kvUse: string | null;
  /** Where it tells how many blocks there are: a sample's label. */
  blocks: { sample: string; label: string } | null;
}

/** A question with an exact number of tokens for an answer. */
export interface TokenQuestion {
  path: string;
  body: object;
  /** null: the answer has another shape than is documented. */
  tokens: (answer: unknown) => number | null;
}

/**
 * How many tokens a prompt has, without generating any. A chat may take two steps: to text, then to tokens. null: the make has no such
 * route, or not for this, and one token is generated to be told.
 */
export interface TokenCounter {
  chat: ((model: string, messages: readonly ChatMessage[]) => TokenQuestion) | null;
  /** Renders a chat to the text of its prompt, which is then counted as one. */
  render: ((model: string, messages: readonly ChatMessage[]) => { path: string; body: object }) | null;
  text: ((model: string, text: string) => TokenQuestion) | null;
}

/** What a chunk of a stream tells of counts, beyond what all makes tell in `usage` and `logprobs`. */
export interface ChunkCounts {
  /** Tokens of the prompt, and those of them that a cache answered. */
  prompt?: number;
  cached?: number;
  /** Output tokens so far of the choice that the chunk is about. */
  total?: number;
  /** Ids of the output tokens that the chunk brings. */
  ids?: number[];
}

export interface Make {
  /** As its makers write it. */
  title: string;
  /** Its name of each sampling parameter, by kind of request; null: it has none. */
  sampling: Readonly<Record<SamplingName, string | null>>;
  /** Differences of /v1/completions, if any. */
  completionSampling?: Readonly<Partial<Record<SamplingName, string | null>>>;
  /** Whether parameters are sent that change nothing, because the make's own value for an absent one does. */
  sendsNeutral: boolean;
  /** Its value for "all tokens" in top_k. */
  allTopK: number;
  /** Any seed of ours as one of its own. */
  seed: (seed: number) => number;
  logitBias: boolean;
  /** Choices per prompt are more than one, each counted. */
  choices: boolean;
  /** Several prompts in a request. */
  promptLists: boolean;
  /** Prompts of token ids. */
  promptIds: boolean;
  logprobs: { chat: boolean; completion: boolean };
  /** Part of every request that generates: what makes its answer countable. */
  always: object;
  /** The tenant's order among its own, -100 to 100 and the higher first, in the make's scale; null: it has none. */
  priority: ((priority: number) => object) | null;
  cache: CacheIsolation;
  counter: TokenCounter;
  /** Its stream tells the prompt's tokens from the beginning, so that they need not be counted apart. */
  tellsPrompt: boolean;
  /** What a chunk tells by the make's own fields. */
  counts: (chunk: Readonly<Record<string, unknown>>) => ChunkCounts;
  /** Where it answers 200 when it is up; a token is asked for all the same. */
  healthPath: string;
  figures: FigureNames | null;
  /** Positions of a sequence, by its entry in /v1/models; null: it doesn't tell there. */
  contextOf: (entry: Readonly<Record<string, unknown>>) => number | null;
  /** Where else it tells the positions of a sequence. */
  contextInfo: { path: string; of: (answer: unknown) => number | null } | null;
}

/** A number of tokens, or nothing. */
export function countIn(value: unknown): number | undefined {
  return Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : undefined;
}

export function recordIn(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

export function listIn(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** Token ids, or nothing where there are none or something else. */
export function idsIn(value: unknown): number[] | undefined {
  const ids = listIn(value);
  return ids.length > 0 && ids.every((id) => countIn(id) !== undefined) ? (ids as number[]) : undefined;
}

/** Of a stream with `continuous_usage_stats`: each chunk tells its own choice's tokens so far, and its prompt's. */
export function continuousUsage(chunk: Readonly<Record<string, unknown>>): ChunkCounts {
  if (listIn(chunk.choices).length !== 1) return {};
  const usage = recordIn(chunk.usage);
  const prompt = countIn(usage.prompt_tokens);
  const total = countIn(usage.completion_tokens);
  return { ...(prompt !== undefined && { prompt }), ...(total !== undefined && { total }) };
}

/** Of a token question whose answer is a list, or an object with a list in `field`. */
export function listLength(field: string | null): (answer: unknown) => number | null {
  return (answer) => {
    const list = field === null ? answer : recordIn(answer)[field];
    return Array.isArray(list) ? list.length : null;
  };
}
