// One event of an upstream's stream, in the form in which it is counted and passed on: per choice what it says, how many tokens that is as
// far as it is told, and usage. Nothing in it is believed beyond its shape; a shape that is not OpenAI's is a broken upstream.
import type { Inference } from '../plan.ts';
import type { FinishReason, LogprobEntry, TokenLogprob } from '../wire/events.ts';
import { parsed, UpstreamFailed } from './connection.ts';
import { type ChunkCounts, countIn, listIn, type Make, recordIn } from './make.ts';

/** Lowest logprob that is told; JSON has no -Infinity. */
const FLOOR_LOGPROB = -9999;
/** Most entries of one chunk: more than any engine batches into one. */
const MAX_ENTRIES = 4096;

export interface Said {
  choice: number;
  text: string;
  logprobs: TokenLogprob[] | null;
  finish: FinishReason | null;
}

export interface UpstreamUsage {
  prompt: number;
  cached: number;
  completion: number;
}

export interface Chunk {
  said: Said[];
  counts: ChunkCounts;
  /** Tokens of the whole request, or of a choice so far: the tally knows. */
  usage: UpstreamUsage | null;
  /** In the place of all else: what the engine says went wrong. */
  error: unknown;
}

/** Throws UpstreamFailed. `topLogprobs`: alternatives that the client sees; null: no logprobs. */
export function readChunk(make: Make, kind: Inference['kind'], data: string, topLogprobs: number | null): Chunk {
  const value = recordIn(parsed(data));
  const failed = value.error != null || value.object === 'error';
  if (failed) return { said: [], counts: {}, usage: null, error: value };
  const said = listIn(value.choices).map((choice) => saidBy(recordIn(choice), kind, topLogprobs));
  return { said, counts: make.counts(value), usage: usageIn(value.usage), error: null };
}

function saidBy(choice: Readonly<Record<string, unknown>>, kind: Inference['kind'], topLogprobs: number | null): Said {
  const index = countIn(choice.index);
  if (index === undefined) throw new UpstreamFailed('a choice of its stream has no index');
  const text = kind === 'chat' ? recordIn(choice.delta).content : choice.text;
  if (text != null && typeof text !== 'string') throw new UpstreamFailed('the text of its stream is no text');
  return {
    choice: index,
    text: text ?? '',
    logprobs: topLogprobs === null ? null : logprobsIn(choice.logprobs, topLogprobs),
    finish: finishIn(choice.finish_reason),
  };
}

/** Throws UpstreamFailed for an end that is none of a generation's. */
function finishIn(reason: unknown): FinishReason | null {
  if (reason == null || reason === '') return null;
  if (reason === 'length') return 'length';
  // Of TGI, an end-of-sequence token and a stop string; of the others, both.
  if (reason === 'stop' || reason === 'eos_token' || reason === 'stop_sequence') return 'stop';
  throw new UpstreamFailed(`it ended a choice with ${JSON.stringify(reason)}`.slice(0, 100));
}

export function usageIn(value: unknown): UpstreamUsage | null {
  const usage = recordIn(value);
  const prompt = countIn(usage.prompt_tokens);
  const completion = countIn(usage.completion_tokens);
  if (prompt === undefined || completion === undefined) return null;
  const cached = countIn(recordIn(usage.prompt_tokens_details).cached_tokens) ?? 0;
  return { prompt, cached: Math.min(cached, prompt), completion };
}

/** A chat's `content`, or a completion's parallel lists; llama.cpp tells completions as chats. */
function logprobsIn(value: unknown, top: number): TokenLogprob[] | null {
  const { content, tokens, token_logprobs, top_logprobs } = recordIn(value);
  if (Array.isArray(content))
    return content.slice(0, MAX_ENTRIES).map((entry) => ({
      ...entryIn(entry),
      top: listIn(recordIn(entry).top_logprobs).slice(0, top).map(entryIn),
    }));
  if (!Array.isArray(tokens)) return null;
  return tokens.slice(0, MAX_ENTRIES).map((token, i) => ({
    ...entryIn({ token, logprob: listIn(token_logprobs)[i] }),
    top: Object.entries(recordIn(listIn(top_logprobs)[i]))
      .slice(0, top)
      .map(([other, logprob]) => entryIn({ token: other, logprob })),
  }));
}

function entryIn(value: unknown): LogprobEntry {
  const { id, token, bytes, logprob } = recordIn(value);
  const text = typeof token === 'string' ? token : '';
  const known = countIn(id);
  return {
    ...(known !== undefined && { id: known }),
    token: text,
    bytes: Array.isArray(bytes) && bytes.every(isByte) ? bytes : bytesOf(text),
    logprob: typeof logprob === 'number' ? Math.max(FLOOR_LOGPROB, logprob) : FLOOR_LOGPROB,
  };
}

/** null where the text may stand for other bytes. */
function bytesOf(text: string): number[] | null {
  return text.includes('\uFFFD') ? null : [...new TextEncoder().encode(text)];
}

function isByte(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 255;
}
