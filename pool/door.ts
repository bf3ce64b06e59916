// The door of a pool of any kind: what is behind the signature is answered signed, JSON in a header and streams event by event; receipts,
// drain, health and metrics are the same whoever computes. What a kind serves besides is its own affair.
import { type Context, Hono } from 'hono';
import type { Arrivals } from './arrivals.ts';
import type { Attendance } from './attendance.ts';
import { authenticate, type Identity, type Signed } from './authenticate.ts';
import { readBody } from './body.ts';
import { internalError, notFound, PoolError } from './errors.ts';
import type { Journal } from './journal.ts';
import { errorText, type Log } from './log.ts';
import { METRICS_CONTENT_TYPE, type PoolMetrics } from './metrics.ts';
import type { NonceMemory } from './nonces.ts';
import { acknowledge, fence, listReceipts } from './receiptRoutes.ts';
import { parseBody } from './validate.ts';
import { acknowledgeBody, fenceBody, type PoolStatus } from './wire/events.ts';
import { signAnswer } from './wire/signing.ts';

/** A pool as its door knows it. */
export interface Door {
  identity: Identity;
  nonces: NonceMemory;
  attendance: Attendance;
  arrivals: Arrivals;
  journal: Journal;
  metrics: PoolMetrics;
  maxBodyBytes: number;
  /** Takes requests, and can account for what it releases. */
  ready: () => boolean;
  status: () => PoolStatus;
  drain: () => void;
  metricsText: () => Promise<string>;
  now: () => number;
  log: Log;
}

export interface Reply {
  status: number;
  body: unknown;
}

/** Runs behind the signature; its JSON, and its errors, are answered signed. */
export type SignedHandler = (request: Signed, raw: Request) => Promise<Reply | Response> | Reply | Response;

/** The routes that every pool has, and how to add signed ones. */
export function openDoor(door: Door): {
  app: Hono;
  signed: (handler: SignedHandler) => (c: Context) => Promise<Response>;
} {
  const app = new Hono();
  const signed = (handler: SignedHandler) => async (c: Context) => {
    let caller: Signed | null = null;
    try {
      const body = await readBody(c.req.raw, door.maxBodyBytes);
      const path = pathAsSent(c.req.raw.url);
      const header = (name: string) => c.req.header(name);
      const verdict = authenticate(
        door.identity,
        door.nonces,
        { method: c.req.method, path, header, body },
        door.now(),
      );
      if (!verdict.ok) throw verdict.error;
      door.attendance.heard(verdict.context.keyId);
      caller = { context: verdict.context, secret: verdict.secret, body };
      const reply = await handler(caller, c.req.raw);
      return reply instanceof Response ? reply : answer(reply, caller);
    } catch (error) {
      return answerError(door, error, caller);
    }
  };

  app.get(
    '/pool/receipts',
    signed((_, raw) => ({ status: 200, body: listReceipts(door.journal, door.arrivals, new URL(raw.url)) })),
  );
  app.delete(
    '/pool/receipts',
    signed(({ body }) => ({
      status: 200,
      body: acknowledge(door.journal, parseBody(acknowledgeBody, body).request_ids),
    })),
  );
  app.post(
    '/pool/fence',
    signed(({ body }) => {
      const { request_id } = parseBody(fenceBody, body);
      return { status: 200, body: { fenced: fence(door.journal, door.arrivals, request_id) } };
    }),
  );
  app.post(
    '/pool/drain',
    signed(() => {
      door.drain();
      return { status: 200, body: door.status() };
    }),
  );

  app.get('/health/live', (c) => c.json({ status: 'live' }));
  app.get('/health/ready', (c) => c.json({ status: door.ready() ? 'ready' : 'not_ready' }, door.ready() ? 200 : 503));
  app.get('/metrics', async (c) => (fromLoopback(c) ? metricsAnswer(await door.metricsText()) : c.notFound()));
  app.notFound((c) => c.json({ error: { ...notFound('There is no such route.', 'not_found', null).wire } }, 404));
  return { app, signed };
}

/** Metrics alone, for a listener of their own: whoever reaches it may read them. */
export function metricsApp(metricsText: Door['metricsText']): Hono {
  return new Hono().get('/metrics', async () => metricsAnswer(await metricsText()));
}

function metricsAnswer(text: string): Response {
  return new Response(text, { headers: { 'content-type': METRICS_CONTENT_TYPE } });
}

function answer({ status, body }: Reply, caller: Signed | null, headers: Record<string, string> = {}): Response {
  const bytes = new TextEncoder().encode(JSON.stringify(body));
  if (caller) headers['hearth-signature'] = signAnswer(caller.secret, caller.context.nonce, status, bytes);
  return new Response(bytes, { status, headers: { ...headers, 'content-type': 'application/json' } });
}

function answerError({ log, metrics }: Door, thrown: unknown, caller: Signed | null): Response {
  const requestId = caller?.context.requestId ?? 'unknown';
  const error = thrown instanceof PoolError ? thrown : internalError(requestId);
  if (error !== thrown) log('error', 'internal_error', { request_id: requestId, error: errorText(thrown) });
  metrics.refusals.add(1, error.label);
  const { status, retry_after_ms } = error.wire;
  const headers: Record<string, string> = {};
  if (retry_after_ms !== undefined) {
    headers['retry-after'] = String(Math.ceil(retry_after_ms / 1000));
    headers['retry-after-ms'] = String(retry_after_ms);
  }
  return answer({ status, body: { error: error.wire } }, caller, headers);
}

/** Path and query as they stood in the request line. */
function pathAsSent(url: string): string {
  return url.slice(url.indexOf('/', url.indexOf('//') + 2));
}

/** True also where there is no socket: the app called in the process itself. */
function fromLoopback(c: Context): boolean {
  const address: unknown = c.env?.incoming?.socket?.remoteAddress;
  if (typeof address !== 'string') return true;
  return address === '::1' || address.startsWith('127.') || address.startsWith('::ffff:127.');
}
