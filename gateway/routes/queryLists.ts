// Query parameters as OpenAI's clients send them: lists as `name[]`, one value each, or as `name` with
// commas between; ranges as `name[gte]`.
import { z } from 'zod';

/** Values per filter: longer lists belong into several queries. */
const MAX_FILTER_VALUES = 100;

export const filterList = z.array(z.string().min(1).max(256)).max(MAX_FILTER_VALUES).optional();
/** Unix seconds, as far as dates go. */
export const unixSeconds = z.coerce.number().int().min(0).max(8_640_000_000_000);

/** `next_page` of an earlier answer. */
export const pageToken = z.string().regex(/^page_\d{1,16}$/, 'not a next_page of an earlier answer');

/** `lists`: names of the parameters that come as lists. */
export function queryOf(url: string, lists: ReadonlySet<string>): Record<string, unknown> {
  const query: Record<string, unknown> = {};
  const params = new URL(url).searchParams;
  for (const raw of new Set(params.keys())) {
    const name = raw.replace(/\[\d*\]$/, '');
    const values = params.getAll(raw);
    const apart = name === raw ? values.flatMap((value) => value.split(',')) : values;
    query[name] = lists.has(name) ? apart : values[0];
  }
  return query;
}
