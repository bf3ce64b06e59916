// The gateway's half of the wire, for tests of a pool: signs requests, verifies every event and every JSON answer, and fails loudly
// on anything that does not hold.
import { randomBytes } from 'node:crypto';
import type { z } from 'zod';
import { invariant } from '../../engine/invariant.ts';
import { type PoolEvent, poolEvent } from '../../pool/wire/events.ts';
import { type KvEvent, kvEvent } from '../../pool/wire/kvEvents.ts';
import { type SignedContext, signRequest, verifyAnswer, verifyEvent } from '../../pool/wire/signing.ts';

export interface PoolAddress {
  url: string;
  poolId: string;
  keyId: string;
  secret: Uint8Array;
}

export interface Ask {
  method?: string;
  path: string;
  body?: unknown;
  context?: Partial<SignedContext>;
  signal?: AbortSignal;
}

export interface PoolAnswer {
  status: number;
  headers: Headers;
  /** Of JSON answers. */
  json: unknown;
  /** Of streams: each verified as it comes. */
  events: AsyncGenerator<PoolEvent>;
}

let requests = 0;

/** What every inference request needs; a test overrides what it is about. */
export function inferenceContext(): Partial<SignedContext> {
  return {
    tenant: 'tenant-a',
    requestId: `req-${process.pid}-${requests++}`,
    deadlineMs: Date.now() + 60_000,
    holdTokens: 400,
  };
}

async function send(pool: PoolAddress, ask: Ask): Promise<{ response: Response; nonce: string }> {
  const body = Buffer.from(ask.body === undefined ? '' : JSON.stringify(ask.body));
  const method = ask.method ?? 'POST';
  const nonce = randomBytes(16).toString('hex');
  const { keyId, poolId, secret } = pool;
  const context = { method, path: ask.path, timeMs: Date.now(), nonce, keyId, poolId, ...ask.context };
  const response = await fetch(`${pool.url}${ask.path}`, {
    method,
    headers: { ...signRequest(secret, context, body), 'content-type': 'application/json' },
    ...(method !== 'GET' && { body }),
    ...(ask.signal && { signal: ask.signal }),
  });
  return { response, nonce: context.nonce };
}

export async function askPool(pool: PoolAddress, ask: Ask): Promise<PoolAnswer> {
  const { secret } = pool;
  const { response, nonce } = await send(pool, ask);
  const answer = { status: response.status, headers: response.headers };
  if (response.headers.get('content-type')?.startsWith('text/event-stream'))
    return { ...answer, json: null, events: verified(response, secret, nonce, poolEvent) };
  const bytes = new Uint8Array(await response.arrayBuffer());
  const signature = response.headers.get('hearth-signature');
  if (signature !== null)
    invariant(verifyAnswer(secret, nonce, response.status, bytes, signature), 'the answer is signed by the pool');
  return { ...answer, json: JSON.parse(new TextDecoder().decode(bytes)), events: none() };
}

async function* none(): AsyncGenerator<PoolEvent> {}

/** The stream of kv-events from the pool: each verified as it comes. Ends with the signal. */
export async function* kvEventsOf(pool: PoolAddress, ask: Omit<Ask, 'body'>): AsyncGenerator<KvEvent> {
  const { response, nonce } = await send(pool, { ...ask, method: 'GET' });
  invariant(response.ok, 'the stream is granted', { status: response.status });
  yield* verified(response, pool.secret, nonce, kvEvent);
}

async function* verified<T extends z.ZodType>(
  response: Response,
  secret: Uint8Array,
  nonce: string,
  schema: T,
): AsyncGenerator<z.output<T>> {
  const decoder = new TextDecoder();
  let sequence = 0;
  let rest = '';
  invariant(response.body, 'a stream has a body');
  for await (const chunk of response.body) {
    rest += decoder.decode(chunk, { stream: true });
    for (let at = rest.indexOf('\n\n'); at >= 0; at = rest.indexOf('\n\n')) {
      const piece = rest.slice(0, at);
      const sent = /^id: ([0-9a-f]{64})\ndata: (.*)$/s.exec(piece);
      rest = rest.slice(at + 2);
      if (sent === null && piece === ':') continue; // a sign of life
      const [, signature = '', lines = ''] = sent ?? [];
      const data = lines.split('\ndata: ');
      invariant(verifyEvent(secret, nonce, sequence, data.join('\n'), signature), 'each event is signed in its place', {
        sequence,
      });
      sequence += 1;
      for (const line of data) yield schema.parse(JSON.parse(line));
    }
  }
  invariant(rest === '', 'a stream ends with a whole event');
}

export async function collect(answer: PoolAnswer): Promise<PoolEvent[]> {
  const events: PoolEvent[] = [];
  for await (const event of answer.events) events.push(event);
  return events;
}

/** Events of one kind, typed. */
export function ofType<T extends PoolEvent['type']>(events: readonly PoolEvent[], type: T) {
  return events.filter((event): event is Extract<PoolEvent, { type: T }> => event.type === type);
}
