// What a gateway or an operator watches a pool by: its status, with figures of the engines on request, and the stream of KV events.
import { z } from 'zod';
import type { Signed } from './authenticate.ts';
import { invalidRequest } from './errors.ts';
import { EventStream, streamed } from './eventStream.ts';
import type { Pool } from './pool.ts';
import { parseQuery } from './validate.ts';
import type { PoolStatus } from './wire/events.ts';
import type { KvEvent } from './wire/kvEvents.ts';
import type { StatusDetail } from './wire/status.ts';

const statusQuery = z.object({
  detail: z.enum(['true', 'false']).default('false'),
  /** Named per engine; the others in sum. */
  tenants: z.coerce.number().int().min(1).max(256).default(20),
  /** Of the pairs of who evicted whom. */
  offset: z.coerce.number().int().min(0).default(0),
  limit: z.coerce.number().int().min(1).max(1000).default(100),
});

/** What the gateway asks each second; with `detail` what an operator wants to see of the engines. */
export async function statusOf(pool: Pool, raw: Request): Promise<PoolStatus & { detail?: StatusDetail }> {
  const { detail, tenants, ...page } = parseQuery(statusQuery, new URL(raw.url));
  return { ...pool.status(), ...(detail === 'true' && { detail: await pool.detail(tenants, page) }) };
}

const kvEventsQuery = z.object({
  epoch: z.string().max(64).default(''),
  after: z.coerce.number().int().min(-1).default(-1),
  tokens: z.enum(['true', 'false']).default('false'),
});

/** A signed cache scope narrows the stream to it, and may ask for its tokens. */
export function kvEvents(pool: Pool, { context, secret }: Signed, raw: Request): Response {
  const { epoch, after, tokens } = parseQuery(kvEventsQuery, new URL(raw.url));
  const { cacheScope: namespace = null, nonce } = context;
  if (tokens === 'true' && namespace === null)
    throw invalidRequest("'tokens' are told of the signed namespace only: sign hearth-cache-scope.", 'tokens');
  const reader = { from: after < 0 ? null : { epoch, sequence: after }, namespace, tokens: tokens === 'true' };
  const gone = new AbortController();
  const stream = new EventStream<KvEvent>(secret, nonce, () => gone.abort());
  pool.parts.kvEvents.subscribe(reader, stream, gone.signal);
  return streamed(stream, raw.signal);
}
