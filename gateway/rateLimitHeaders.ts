// x-ratelimit-* as OpenAI's: of the quota with the least room, with its reset as a duration ("1s", "6m0s").
import { roomOf, tightest } from './ledger/decide.ts';
import type { QuotaState } from './ledger/port.ts';

export function rateLimitHeaders(quotas: readonly QuotaState[], nowMs: number): Record<string, string> {
  const least = tightest(quotas);
  if (!least) return {};
  return {
    'x-ratelimit-limit-tokens': String(least.limitTokens),
    'x-ratelimit-remaining-tokens': String(roomOf(least)),
    ...(least.resetsAtMs !== null && { 'x-ratelimit-reset-tokens': duration(least.resetsAtMs - nowMs) }),
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
