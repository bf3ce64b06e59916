// From bytes to a checked request, by the schemas that gateway and pool share. A refusal names the field as OpenAI's API does.
import type { z } from 'zod';
import { invalidRequest, type PoolError } from './errors.ts';

/** Bytes to a value of the schema. Throws PoolError (400) that names the first wrong field. */
export function parseBody<T extends z.ZodType>(schema: T, body: Uint8Array): z.output<T> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    throw invalidRequest('The request body is not valid JSON in UTF-8.', null);
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw describe(parsed.error.issues);
  return parsed.data;
}

/** A query to a value of the schema. Throws PoolError (400) that names the first wrong field. */
export function parseQuery<T extends z.ZodType>(schema: T, url: URL): z.output<T> {
  const parsed = schema.safeParse(Object.fromEntries(url.searchParams));
  if (!parsed.success) throw describe(parsed.error.issues);
  return parsed.data;
}

function describe(issues: readonly z.core.$ZodIssue[]): PoolError {
  const issue = issues[0];
  if (!issue) return invalidRequest('The request is not valid.', null);
  const at = issue.path.map(String).join('.');
  if (issue.code === 'unrecognized_keys') {
    const name = [at, issue.keys[0] ?? ''].filter(Boolean).join('.');
    return invalidRequest(`Unrecognized request argument supplied: ${name}.`, name, 'unsupported_parameter');
  }
  if (!at) return invalidRequest(`The request body is not valid: ${issue.message}.`, null);
  return invalidRequest(`Invalid value for '${at}': ${issue.message}.`, at);
}
