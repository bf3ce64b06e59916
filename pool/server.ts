// The pool's HTTP face (internal: its only client is the gateway). Everything but health and metrics must be signed, and is answered
// signed: JSON answers in a header, streams event by event. It decides nothing itself; it carries between the wire and the pool.
import { type Context, Hono } from 'hono';
import { z } from 'zod';
import { authenticate } from './authenticate.ts';
import { readBody } from './body.ts';
import { internalError, invalidRequest, notFound, PoolError } from './errors.ts';
import { EventStream } from './eventStream.ts';
import { errorText } from './log.ts';
import { METRICS_CONTENT_TYPE } from './metrics.ts';
import { type Grant, type Inference, planRequest } from './plan.ts';
import type { Pool } from './pool.ts';
import { prefixTokens } from './prefixTokens.ts';
import { chatPrompt, completionPrompts } from './prompt.ts';
import { acknowledge, listReceipts } from './receiptRoutes.ts';
import type { PoolModel } from './servedModel.ts';
import { parseBody, parseQuery } from './validate.ts';
import { acknowledgeBody, type PoolStatus } from './wire/events.ts';
import { chatRequest, completionRequest, countRequest } from './wire/inference.ts';
import type { KvEvent } from './wire/kvEvents.ts';
import { prefixDeclaration, prefixSet } from './wire/publicPrefixes.ts';
import { type SignedContext, signAnswer } from './wire/signing.ts';
import type { StatusDetail } from './wire/status.ts';

/** A request whose signature held, with its body. */
interface Signed {
  context: SignedContext;
  secret: Uint8Array;
  body: Uint8Array;
}

interface Reply {
  status: number;
  body: unknown;
}

/** Kept for a reader of kv-events that is behind: more than the whole index of most pools. Past it the reader has to come again. */
const MAX_READER_BYTES = 16 * 2 ** 20;

/** Longest request id and tenant that a receipt can carry. */
const MAX_NAME_CHARS = 128;

export function createPoolApp(pool: Pool): Hono {
  const app = new Hono();
  const { parts } = pool;

  /** Runs a handler behind the signature; its JSON, and its errors, are answered signed. */
  const signed =
    (handler: (request: Signed, raw: Request) => Promise<Reply | Response> | Reply) => async (c: Context) => {
      let caller: Signed | null = null;
      try {
        const body = await readBody(c.req.raw, parts.maxBodyBytes);
        const path = pathAsSent(c.req.raw.url);
        const header = (name: string) => c.req.header(name);
        const verdict = authenticate(
          parts.identity,
          pool.nonces,
          { method: c.req.method, path, header, body },
          parts.now(),
        );
        if (!verdict.ok) throw verdict.error;
        caller = { context: verdict.context, secret: verdict.secret, body };
        const reply = await handler(caller, c.req.raw);
        return reply instanceof Response ? reply : answer(reply, caller);
      } catch (error) {
        return answerError(pool, error, caller);
      }
    };

  app.post(
    '/v1/chat/completions',
    signed((request, raw) => infer(pool, request, raw, 'chat')),
  );
  app.post(
    '/v1/completions',
    signed((request, raw) => infer(pool, request, raw, 'completion')),
  );
  app.post(
    '/pool/count',
    signed(({ body }) => ({ status: 200, body: countTokens(pool, body) })),
  );
  app.get(
    '/pool/status',
    signed(async (_, raw) => ({ status: 200, body: await statusOf(pool, raw) })),
  );
  app.get(
    '/pool/receipts',
    signed((_, raw) => ({ status: 200, body: listReceipts(parts.journal, new URL(raw.url)) })),
  );
  app.delete(
    '/pool/receipts',
    signed(({ body }) => ({
      status: 200,
      body: acknowledge(parts.journal, parseBody(acknowledgeBody, body).request_ids),
    })),
  );
  app.get(
    '/pool/kv-events',
    signed((request, raw) => kvEvents(pool, request, raw)),
  );
  app.put(
    '/pool/public_prefixes',
    signed(async ({ body }) => ({ status: 200, body: await pool.publicPrefixes.replace(parseBody(prefixSet, body)) })),
  );
  app.post(
    '/pool/public_prefixes/render',
    signed(({ body }) => {
      const declaration = parseBody(prefixDeclaration, body);
      return { status: 200, body: { tokens: prefixTokens(modelOf(pool, declaration.model), declaration).length } };
    }),
  );
  app.post(
    '/pool/drain',
    signed(() => {
      pool.drain();
      return { status: 200, body: pool.status() };
    }),
  );

  app.get('/health/live', (c) => c.json({ status: 'live' }));
  app.get('/health/ready', (c) => c.json({ status: pool.ready ? 'ready' : 'not_ready' }, pool.ready ? 200 : 503));
  app.get('/metrics', async (c) => {
    if (!fromLoopback(c)) return c.notFound();
    return c.body(await pool.metricsText(), 200, { 'content-type': METRICS_CONTENT_TYPE });
  });
  app.notFound((c) => c.json({ error: { ...notFound('There is no such route.', 'not_found', null).wire } }, 404));
  return app;
}

async function infer(pool: Pool, request: Signed, raw: Request, kind: Inference['kind']): Promise<Response> {
  const { parts } = pool;
  const grant = grantOf(request.context);
  const inference: Inference =
    kind === 'chat'
      ? { kind, request: parseBody(chatRequest, request.body) }
      : { kind, request: parseBody(completionRequest, request.body) };
  const model = modelOf(pool, inference.request.model);
  const plan = planRequest(model, inference, withPriority(grant, request.context, inference), parts.drawSeed);
  const stream = new EventStream(request.secret, request.context.nonce, () => parts.requests.abort(grant.requestId));
  const response = streaming(stream, raw);
  await parts.requests.start(model, plan, grant, stream);
  return response;
}

/** The answer; its reader leaving abandons the stream. */
function streaming<E>(stream: EventStream<E>, { signal }: Request): Response {
  if (signal.aborted) stream.abandon();
  else signal.addEventListener('abort', () => stream.abandon(), { once: true });
  return new Response(stream.body, {
    headers: { 'content-type': 'text/event-stream', 'cache-control': 'no-store' },
  });
}

const statusQuery = z.object({
  detail: z.enum(['true', 'false']).default('false'),
  /** Named per engine; the others in sum. */
  tenants: z.coerce.number().int().min(1).max(256).default(20),
  /** Of the pairs of who evicted whom. */
  offset: z.coerce.number().int().min(0).default(0),
  limit: z.coerce.number().int().min(1).max(1000).default(100),
});

/** What the gateway asks each second; with `detail` what an operator wants to see of the engines. */
async function statusOf(pool: Pool, raw: Request): Promise<PoolStatus & { detail?: StatusDetail }> {
  const { detail, tenants, ...page } = parseQuery(statusQuery, new URL(raw.url));
  return { ...pool.status(), ...(detail === 'true' && { detail: await pool.detail(tenants, page) }) };
}

const kvEventsQuery = z.object({
  epoch: z.string().max(64).default(''),
  after: z.coerce.number().int().min(-1).default(-1),
  tokens: z.enum(['true', 'false']).default('false'),
});

/** A signed cache scope narrows the stream to it, and may ask for its tokens. */
function kvEvents(pool: Pool, { context, secret }: Signed, raw: Request): Response {
  const { epoch, after, tokens } = parseQuery(kvEventsQuery, new URL(raw.url));
  const { cacheScope: namespace = null, nonce } = context;
  if (tokens === 'true' && namespace === null)
    throw invalidRequest("'tokens' are told of the signed namespace only: sign hearth-cache-scope.", 'tokens');
  let leave = () => {};
  const stream = new EventStream<KvEvent>(secret, nonce, () => leave(), MAX_READER_BYTES);
  const from = after < 0 ? null : { epoch, sequence: after };
  leave = pool.parts.kvEvents.subscribe({ from, namespace, tokens: tokens === 'true' }, stream);
  return streaming(stream, raw);
}

function countTokens(pool: Pool, body: Uint8Array): { prompt_tokens: number[] } {
  const request = parseBody(countRequest, body);
  const model = modelOf(pool, request.model);
  if ('messages' in request) return { prompt_tokens: [chatPrompt(model, request.messages).length] };
  return { prompt_tokens: completionPrompts(model, request.prompt).map((ids) => ids.length) };
}

function modelOf(pool: Pool, id: string): PoolModel {
  const model = pool.model(id);
  if (!model) throw notFound(`The model '${id}' is not served by this pool.`, 'model_not_found', 'model');
  return model;
}

/** The signed allowance of an inference request. Throws PoolError (400) naming the header that is missing. */
function grantOf(context: SignedContext): Grant {
  const { requestId, tenant, deadlineMs, holdTokens } = context;
  const name = (value: string | undefined, header: string): string => {
    if (value === undefined || value.length > MAX_NAME_CHARS)
      throw invalidRequest(
        `An inference request needs the header ${header}, of at most ${MAX_NAME_CHARS} characters.`,
        header,
      );
    return value;
  };
  const number = (value: number | undefined, header: string): number => {
    if (value === undefined || value < 0)
      throw invalidRequest(`An inference request needs the header ${header}.`, header);
    return value;
  };
  return {
    requestId: name(requestId, 'hearth-request-id'),
    tenant: name(tenant, 'hearth-tenant'),
    priority: context.priority ?? 0,
    deadlineMs: number(deadlineMs, 'hearth-deadline'),
    holdTokens: number(holdTokens, 'hearth-hold'),
    weight: weightOf(context),
    cache: cacheOf(context),
  };
}

function weightOf({ weight = 1 }: SignedContext): number {
  if (weight > 0) return weight;
  throw invalidRequest('The header hearth-weight needs a number above 0.', 'hearth-weight');
}

/** Throws PoolError (400) for a seal that is no key or a floor that is no share. */
function cacheOf(context: SignedContext): Grant['cache'] {
  const { cacheScope, cacheSeal, kvFloorShare = 0 } = context;
  if (cacheScope === undefined) return null;
  if (cacheScope.length > MAX_NAME_CHARS)
    throw invalidRequest(
      `The header hearth-cache-scope has more than ${MAX_NAME_CHARS} characters.`,
      'hearth-cache-scope',
    );
  if (cacheSeal !== undefined && !/^[0-9a-f]{64}$/.test(cacheSeal))
    throw invalidRequest('The header hearth-cache-seal needs 32 bytes as 64 hex digits.', 'hearth-cache-seal');
  if (kvFloorShare > 1)
    throw invalidRequest('The header hearth-kv-floor needs a share from 0 to 1.', 'hearth-kv-floor');
  return {
    scope: { namespace: cacheScope, sealKey: cacheSeal === undefined ? null : sealBytes(cacheSeal) },
    account: { name: context.tenant ?? '', weight: weightOf(context), floorShare: kvFloorShare },
  };
}

/** In a buffer of its own: it crosses a thread border, and one from Node's pool would take its neighbours along. */
function sealBytes(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex, 'hex'));
}

/** The gateway's signed priority, or else what the request says among the requests of its own tenant. */
function withPriority(grant: Grant, context: SignedContext, { request }: Inference): Grant {
  if (context.priority === undefined) grant.priority = request.priority ?? 0;
  return grant;
}

function answer({ status, body }: Reply, caller: Signed | null, headers: Record<string, string> = {}): Response {
  const bytes = new TextEncoder().encode(JSON.stringify(body));
  if (caller) headers['hearth-signature'] = signAnswer(caller.secret, caller.context.nonce, status, bytes);
  return new Response(bytes, { status, headers: { ...headers, 'content-type': 'application/json' } });
}

function answerError(pool: Pool, thrown: unknown, caller: Signed | null): Response {
  const { log, metrics } = pool.parts;
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
