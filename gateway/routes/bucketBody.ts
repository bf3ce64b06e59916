// A page of buckets in OpenAI's shape: every bucket of the page, those without results empty.
import type { BucketPage } from '../usage/buckets.ts';

export function pageOffset(token: string | undefined): number | undefined {
  return token === undefined ? undefined : Number(token.slice('page_'.length));
}

/** `widthMs`: of a bucket; `show`: a sum as its result. */
export function bucketsBody<S extends { bucketMs: number }>(
  { startsMs, nextMs }: BucketPage,
  widthMs: number,
  sums: readonly S[],
  show: (sum: S) => object,
): object {
  const byBucket = Map.groupBy(sums, ({ bucketMs }) => bucketMs);
  return {
    object: 'page',
    data: startsMs.map((startMs) => ({
      object: 'bucket',
      start_time: startMs / 1000,
      end_time: (startMs + widthMs) / 1000,
      results: (byBucket.get(startMs) ?? []).map(show),
    })),
    has_more: nextMs !== null,
    next_page: nextMs === null ? null : `page_${nextMs}`,
  };
}
