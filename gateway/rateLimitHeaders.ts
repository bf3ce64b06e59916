// x-ratelimit-* as OpenAI's: of requests and of tokens, each of the limit with the least room, with its reset as a duration ("1s", "6m0s").
import { type LimitState, type Metric, roomOf, tightest } from './ledger/limits.ts';

export function rateLimitHeaders(limits: readonly LimitState[], nowMs: number): Record<string, string> {
  return { ...headersOf(limits, 'requests', nowMs), ...headersOf(limits, 'tokens', nowMs) };
}

function headersOf(
  limits: readonly LimitState[],
  metric: Extract<Metric, 'requests' | 'tokens'>,
  nowMs: number,
): Record<string, string> {
  const least = tightest(limits.filter((limit) => limit.metric === metric));
  if (!least) return {};
  return {
    [`x-ratelimit-limit-${metric}`]: String(least.limit),
    [`x-ratelimit-remaining-${metric}`]: String(roomOf(least)),
    ...(least.resetsAtMs !== null && { [`x-ratelimit-reset-${metric}`]: duration(least.resetsAtMs - nowMs) }),
  };
}

/** As Go prints durations, without fractions above a second: "120ms", "1s", "6m0s", "23h0m5s". */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.ceil(ms))}ms`;
  const seconds = Math.ceil(ms / 1000);
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60), seconds % 60];
  if (h > 0) return `${h}h${m}m${s}s`;
  return m > 0 ? `${m}m${s}s` : `${s}s`;
}
