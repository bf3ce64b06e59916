// The page of buckets that a usage query asks for: aligned to UTC minutes, hours or days, as many as the width allows. Pure.
export const BUCKETS = {
  '1m': { ms: 60_000, defaultLimit: 60, maxLimit: 1440 },
  '1h': { ms: 3_600_000, defaultLimit: 24, maxLimit: 168 },
  '1d': { ms: 86_400_000, defaultLimit: 7, maxLimit: 31 },
} as const;
export type BucketWidth = keyof typeof BUCKETS;

export interface BucketPage {
  /** Start of the first bucket; end of the last, cut at the end that was asked for. */
  startMs: number;
  endMs: number;
  /** Start of each bucket. */
  startsMs: number[];
  /** Where the next page begins; null: this was the last. */
  nextMs: number | null;
}

/** `pageMs`: start of a later page, as an earlier one told it. */
export function bucketPage(
  range: { startMs: number; endMs: number },
  width: BucketWidth,
  limit: number,
  pageMs?: number,
): BucketPage {
  const { ms } = BUCKETS[width];
  const from = Math.max(range.startMs, pageMs ?? 0);
  const startMs = Math.floor(from / ms) * ms;
  const startsMs: number[] = [];
  for (let at = startMs; at < range.endMs && startsMs.length < limit; at += ms) startsMs.push(at);
  const after = startMs + startsMs.length * ms;
  return {
    startMs,
    endMs: Math.max(startMs, Math.min(after, range.endMs)),
    startsMs,
    nextMs: after < range.endMs ? after : null,
  };
}
