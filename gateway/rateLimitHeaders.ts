// x-ratelimit-* as OpenAI's: of requests and of tokens, each of the limit with the least room, with its reset as a duration ("1s", "6m0s").
import { type LimitState, type Metric, roomOf, tightest } from './ledger/limits.ts';

export function rateLimitHeaders(limits: readonly LimitState[], nowMs: number): Record<string, string> {
  const headers: Record<string, string> = {};
  // Names in full: made of parts, they cost more than all the rest of this.
  const requests = least(limits, 'requests');
  if (requests) {
    headers['x-ratelimit-limit-requests'] = String(requests.limit);
    headers['x-ratelimit-remaining-requests'] = String(roomOf(requests));
    if (requests.resetsAtMs !== null) headers['x-ratelimit-reset-requests'] = duration(requests.resetsAtMs - nowMs);
  }
  const tokens = least(limits, 'tokens');
  if (tokens) {
    headers['x-ratelimit-limit-tokens'] = String(tokens.limit);
    headers['x-ratelimit-remaining-tokens'] = String(roomOf(tokens));
    if (tokens.resetsAtMs !== null) headers['x-ratelimit-reset-tokens'] = duration(tokens.resetsAtMs - nowMs);
  }
  return headers;
}

function least(limits: readonly LimitState[], metric: Metric): LimitState | undefined {
  return tightest(limits.filter((limit) => limit.metric === metric));
}

/** As Go prints durations, without fractions above a second: "120ms", "1s", "6m0s", "23h0m5s". */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.ceil(ms))}ms`;
  const seconds = Math.ceil(ms / 1000);
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60), seconds % 60];
  if (h > 0) return `${h}h${m}m${s}s`;
  return m > 0 ? `${m}m${s}s` : `${s}s`;
}
