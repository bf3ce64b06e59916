// From a request's bytes to a checked value. The size is refused before the body is read whole; a wrong field is named as a dotted
// path ("messages.0.role"), and a field that nobody knows is refused, because a parameter silently ignored is a wrong answer.
import type { z } from 'zod';
import { bodyTooLarge, GatewayError, invalidRequest } from './errors.ts';
import { MAX_JSON_DEPTH, nestsDeeper } from './jsonBounds.ts';

const UTF8 = new TextDecoder('utf-8', { fatal: true });

/** Throws GatewayError: 413, or 400 that names the first wrong field. */
export async function readJson<T extends z.ZodType>(
  request: Request,
  schema: T,
  maxBytes: number,
): Promise<z.output<T>> {
  return jsonOf(await readBytes(request, maxBytes), schema);
}

/** The same of bytes that were read before. Throws GatewayError (400). */
export function jsonOf<T extends z.ZodType>(bytes: Uint8Array, schema: T): z.output<T> {
  if (nestsDeeper(bytes, MAX_JSON_DEPTH))
    throw invalidRequest(`The request body nests deeper than ${MAX_JSON_DEPTH} arrays and objects. Flatten it.`, null);
  let value: unknown;
  try {
    value = JSON.parse(UTF8.decode(bytes));
  } catch {
    throw invalidRequest('The request body is not valid JSON in UTF-8.', null);
  }
  return checked(schema, value);
}

/** Throws GatewayError (400) that names the first wrong field. */
export function checked<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw describe(deepest(parsed.error.issues, []));
}

/** Throws GatewayError: 413, or 400 when it ends too early. */
export async function readBytes(request: Request, maxBytes: number): Promise<Uint8Array> {
  const told = request.headers.get('content-length');
  if (Number(told ?? 0) > maxBytes) throw bodyTooLarge(maxBytes);
  const pieces: Uint8Array[] = [];
  let size = 0;
  try {
    // HTTP ends a body at the length that it told; reading it whole spares a stream.
    if (told !== null) return new Uint8Array(await request.arrayBuffer());
    for await (const piece of request.body ?? []) {
      size += piece.length;
      if (size > maxBytes) throw bodyTooLarge(maxBytes);
      pieces.push(piece);
    }
  } catch (error) {
    if (error instanceof GatewayError) throw error;
    throw invalidRequest('The request body ended before it was whole.', null); // the client left: nobody hears it
  }
  return Buffer.concat(pieces);
}

interface Issue {
  path: PropertyKey[];
  message: string;
  unknownKey?: string;
  /** The value is of another type than the schema's. */
  wrongType?: boolean;
}

/** Deeper than any schema here. */
const MAX_DEPTH = 100;

/**
 * The first issue; of a union, that of the branch which was probably meant: one where the type fits and the value doesn't, or else the
 * one that got furthest: deepest, or at one depth to the last entry of a list.
 */
function deepest(issues: readonly z.core.$ZodIssue[], prefix: readonly PropertyKey[]): Issue {
  const issue = issues[0];
  if (!issue) return { path: [...prefix], message: 'invalid' };
  const path = [...prefix, ...issue.path];
  if (issue.code === 'unrecognized_keys') {
    const unknownKey = issue.keys[0];
    return { path, message: issue.message, ...(unknownKey !== undefined && { unknownKey }) };
  }
  if (issue.code !== 'invalid_union') return { path, message: issue.message, wrongType: issue.code === 'invalid_type' };
  const branches = issue.errors.map((branch) => deepest(branch, path));
  return branches.reduce(
    (best, one) => (gotFurther(one, best) ? one : best),
    branches[0] ?? { path, message: issue.message },
  );
}

function gotFurther(one: Issue, other: Issue): boolean {
  const rank = ({ path, wrongType }: Issue) => path.length + (wrongType ? 0 : MAX_DEPTH);
  if (rank(one) !== rank(other)) return rank(one) > rank(other);
  const fork = one.path.findIndex((key, i) => key !== other.path[i]);
  return fork >= 0 && Number(one.path[fork]) > Number(other.path[fork]);
}

function describe({ path, message, unknownKey }: Issue): GatewayError {
  const at = path.map(String).join('.');
  if (unknownKey !== undefined) {
    const name = at ? `${at}.${unknownKey}` : unknownKey;
    return invalidRequest(
      `Unrecognized request argument supplied: ${name.slice(0, 256)}.`,
      name.slice(0, 256),
      'unsupported_parameter',
    );
  }
  if (!at) return invalidRequest(`The request is not valid: ${message}.`, null);
  return invalidRequest(`Invalid value for '${at}': ${message}.`, at);
}
