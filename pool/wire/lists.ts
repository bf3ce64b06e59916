// Lists and maps in a request, checked entry by entry and refused at the first wrong one. A validator that gathers every issue would
// let eight megabytes of wrong entries take seconds and gigabytes of the one process that serves everybody.
import { z } from 'zod';

export interface ListBounds {
  min: number;
  max: number;
}

/** `min` to `max` entries of `element`; the number is checked before any entry is. */
export function listOf<T extends z.ZodType>(element: T, { min, max }: ListBounds) {
  return z
    .array(z.unknown().meta(describedAs(element)))
    .min(min)
    .max(max)
    .transform((entries, context): z.output<T>[] => {
      const checked: z.output<T>[] = [];
      for (const [i, entry] of entries.entries()) {
        const parsed = element.safeParse(entry);
        if (!parsed.success) {
          for (const issue of parsed.error.issues)
            context.issues.push({ ...issue, path: [i, ...issue.path], input: entry } as z.core.$ZodRawIssue);
          return z.NEVER;
        }
        checked.push(parsed.data);
      }
      return checked;
    });
}

/** At most `max` entries; the number is checked before any entry is. */
export function mapOf<K extends z.ZodString, V extends z.ZodType>(key: K, value: V, max: number) {
  return z
    .custom<Record<string, unknown>>(isMap, { error: 'expected an object', abort: true })
    .refine((map) => Object.keys(map).length <= max, `at most ${max} entries`)
    .pipe(z.record(key, value))
    .meta({
      type: 'object',
      propertyNames: describedAs(key),
      additionalProperties: describedAs(value),
      maxProperties: max,
    });
}

/** For readers of the JSON Schema, which would see unknown entries here. */
function describedAs(schema: z.ZodType): Record<string, unknown> {
  const { $schema: _, '~standard': __, ...described } = z.toJSONSchema(schema, { io: 'input' });
  return described;
}

function isMap(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Token ids, none or more. Not an element schema: a batch has a million of them. */
export const anyTokenIds = tokenIdsFrom(0);

/** Token ids, one or more. */
export const tokenIds = tokenIdsFrom(1);

function tokenIdsFrom(min: number) {
  const list = z.array(z.unknown().meta({ type: 'integer', minimum: 0, description: 'A token id.' })).min(min);
  return list.transform((entries, context): number[] => {
    const wrong = entries.findIndex((entry) => !Number.isSafeInteger(entry) || (entry as number) < 0);
    if (wrong === -1) return entries as number[];
    context.issues.push({
      code: 'invalid_type',
      expected: 'int',
      path: [wrong],
      message: 'Invalid input: expected a token id, a whole number from 0',
      input: entries[wrong],
    });
    return z.NEVER;
  });
}
