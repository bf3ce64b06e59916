// The engine's logprobs, which are ids and numbers, as the wire tells them: each token with its text and exact bytes.
import type { PositionLogprob } from '../engine/request.ts';
import { type TokenTexts, tokenText } from './detokenizer.ts';
import type { LogprobEntry, TokenLogprob } from './wire/events.ts';

/** JSON has no -Infinity; the wire's floor stands for it. */
const FLOOR = -9999;

function entry(tokens: TokenTexts, id: number, logprob: number): LogprobEntry {
  return { id, ...tokenText(tokens, id), logprob: Math.max(FLOOR, logprob) };
}

export function wireLogprob(tokens: TokenTexts, { id, logprob, top }: PositionLogprob): TokenLogprob {
  return {
    id,
    ...tokenText(tokens, id),
    logprob: logprob === null ? null : Math.max(FLOOR, logprob),
    top: top.map(([other, value]) => entry(tokens, other, value)),
  };
}

/** A prompt's token without its logprob, for an echo that asked for none. */
export function echoedToken(tokens: TokenTexts, id: number): TokenLogprob {
  return { id, ...tokenText(tokens, id), logprob: null, top: [] };
}
