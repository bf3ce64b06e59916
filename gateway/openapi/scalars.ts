// Numbers and lists that answers are made of.
import { z } from 'zod';

export const count = z.int().min(0);
export const unixTime = z.int().min(0).describe('Unix seconds.');
export const unixTimeOrNull = unixTime.nullable();

/** OpenAI's list, with its paging by `after`: the last id of a page begins the next. */
export function listAnswer<T extends z.ZodType>(element: T) {
  return z.object({
    object: z.literal('list'),
    data: z.array(element),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
    has_more: z.boolean(),
  });
}

export function deletedAnswer(object: string) {
  return z.object({ object: z.literal(object), id: z.string(), deleted: z.literal(true) });
}
