// OpenAI's list shape and its paging by `after` and `limit`, for lists of the administration routes.
import { z } from 'zod';
import { checked } from '../requestBody.ts';

const DEFAULT_PAGE = 20;
const MAX_PAGE = 100;

export const pageQuery = z.object({
  after: z.string().max(128).optional(),
  limit: z.coerce.number().int().min(1).max(MAX_PAGE).default(DEFAULT_PAGE),
});

/** Throws GatewayError (400). */
export function pageOf(query: Record<string, string>): { after?: string; limit: number } {
  const { after, limit } = checked(pageQuery, query);
  return { limit, ...(after !== undefined && { after }) };
}

export function listBody<T extends { id: string }>(data: readonly T[], hasMore: boolean): object {
  return {
    object: 'list',
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: hasMore,
  };
}

/** A page of a list that is bounded as a whole. */
export function slicePage<T extends { id: string }>(
  all: readonly T[],
  page: { after?: string; limit: number },
): object {
  const start = page.after === undefined ? 0 : all.findIndex(({ id }) => id === page.after) + 1;
  return listBody(all.slice(start, start + page.limit), start + page.limit < all.length);
}

export function seconds(ms: number): number {
  return Math.floor(ms / 1000);
}

export function secondsOrNull(ms: number | null): number | null {
  return ms === null ? null : seconds(ms);
}
