// What the ledger refuses, as the answer of the error table: whether to retry and when, which limit it was and where it stands. Every
// figure is the caller's own.
import { keyRefused } from '../authenticate.ts';
import {
  GatewayError,
  idempotencyExhausted,
  idempotencyInProgress,
  idempotencyKeyReused,
  invalidRequest,
  modelNotAllowed,
} from '../errors.ts';
import { type KeyConflict, MAX_ATTEMPTS } from '../ledger/idempotency.ts';
import type { LimitState } from '../ledger/limits.ts';
import type { Admission, KeyRefusal } from '../ledger/port.ts';
import type { GatewayPorts } from '../ports.ts';
import { decimalUsd } from '../prices/price.ts';
import { rateLimitHeaders } from '../rateLimitHeaders.ts';

export function refusal(
  { metrics, clock }: Pick<GatewayPorts, 'metrics' | 'clock'>,
  model: string,
  admission: Exclude<Admission, { kind: 'granted' | 'count_first' }>,
): GatewayError {
  if (!('limit' in admission)) return refusalOfKeys(model, admission.kind);
  const { kind, limit, needed, retryAfterMs, limits } = admission;
  metrics.refused(kind);
  const name = limitName(limit);
  const headers = rateLimitHeaders(limits, clock.now());
  const needs = `This request needs at least ${amountText(limit, needed)}`;
  const state = `limit ${amountText(limit, limit.limit)}, used ${amountText(limit, limit.settled)}, held by running requests ${amountText(limit, limit.held)}`;
  if (kind === 'too_large')
    return invalidRequest(
      `${needs}, which is more than ${name} of ${limit.limit} tokens. Shorten the prompt, or lower max_tokens.`,
      null,
    );
  if (kind === 'rate' || kind === 'held')
    return new GatewayError({
      status: 429,
      type: limit.metric === 'tokens' || limit.metric === 'spend' ? 'tokens' : 'requests',
      code: 'rate_limit_exceeded',
      message: `${needs}, but ${name} has no room until ${limit.window === 'minute' ? 'earlier use is a minute old' : 'running requests end'} (${state}). Retry.`,
      headers,
      ...(retryAfterMs !== null && { retryAfterMs }),
    });
  const resets =
    limit.resetsAtMs === null ? 'It does not reset' : `It resets at ${new Date(limit.resetsAtMs).toISOString()}`;
  return new GatewayError({
    status: 429,
    type: 'insufficient_quota',
    code: limit.metric === 'spend' ? 'spend_limit_exceeded' : 'insufficient_quota',
    message: `${needs}, but ${name} has no room for it (${state}). ${resets}; ${limit.metric === 'requests' ? '' : 'lower max_tokens, or '}ask for a higher limit.`,
    neverRetry: true,
    headers,
    ...(limit.resetsAtMs !== null && { retryAfterMs: Math.max(1000, limit.resetsAtMs - clock.now()) }),
  });
}

/** What no limit refuses, but a key: the caller's own, or its request's. */
export function refusalOfKeys(model: string, kind: 'model_not_allowed' | KeyConflict | KeyRefusal): GatewayError {
  switch (kind) {
    case 'model_not_allowed':
      return modelNotAllowed(model);
    case 'in_progress':
      return idempotencyInProgress();
    case 'key_reused':
      return idempotencyKeyReused();
    case 'attempts_exhausted':
      return idempotencyExhausted(MAX_ATTEMPTS);
    default:
      return keyRefused(kind);
  }
}

const WINDOW_NAMES = { minute: 'per-minute', day: 'daily', month: 'monthly', lifetime: 'lifetime', none: '' } as const;

function limitName({ metric, window, models, keyId }: LimitState): string {
  const what = {
    requests: `the ${WINDOW_NAMES[window]} request limit`,
    tokens: window === 'minute' ? 'the per-minute token limit' : `the ${WINDOW_NAMES[window]} quota`,
    spend: `the ${WINDOW_NAMES[window]} spend limit`,
    concurrent: 'the limit of requests at once',
  }[metric];
  return `${what}${keyId === null ? '' : ' of this key'}${models ? ` for ${models.join(', ')}` : ''}`;
}

function amountText({ metric }: LimitState, amount: number): string {
  if (metric === 'spend') return `${decimalUsd(BigInt(amount))} USD`;
  return `${amount} ${metric === 'tokens' ? 'token' : 'request'}${amount === 1 ? '' : 's'}`;
}
