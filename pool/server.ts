// The pool's HTTP face (internal: its only client is the gateway). Everything but health and metrics must be signed, and is answered
// signed: JSON answers in a header, streams event by event. It decides nothing itself; it carries between the wire and the pool.
import { type Context, Hono } from 'hono';
import { authenticate, type Signed } from './authenticate.ts';
import { readBody } from './body.ts';
import { internalError, notFound, PoolError } from './errors.ts';
import { EventStream, streamed } from './eventStream.ts';
import { grantOf, withPriority } from './grant.ts';
import { errorText } from './log.ts';
import { METRICS_CONTENT_TYPE } from './metrics.ts';
import { type Inference, planRequest } from './plan.ts';
import type { Pool } from './pool.ts';
import { prefixTokens } from './prefixTokens.ts';
import { chatPrompt, completionPrompts } from './prompt.ts';
import { acknowledge, listReceipts } from './receiptRoutes.ts';
import type { PoolModel } from './servedModel.ts';
import { parseBody } from './validate.ts';
import { kvEvents, statusOf } from './watchRoutes.ts';
import { acknowledgeBody, moveBody } from './wire/events.ts';
import { countRequest, poolChatRequest, poolCompletionRequest } from './wire/inference.ts';
import { prefixDeclaration, prefixSet } from './wire/publicPrefixes.ts';
import { signAnswer } from './wire/signing.ts';

interface Reply {
  status: number;
  body: unknown;
}

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
  for (const move of ['sleep', 'wake'] as const)
    app.post(
      `/pool/${move}`,
      signed(async ({ body }) => {
        for (const engine of enginesOf(pool, parseBody(moveBody, body).model)) await parts.lifecycle[move](engine);
        return { status: 200, body: pool.status() };
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
      ? { kind, request: parseBody(poolChatRequest, request.body) }
      : { kind, request: parseBody(poolCompletionRequest, request.body) };
  const model = modelOf(pool, inference.request.model);
  const plan = planRequest(model, inference, withPriority(grant, request.context, inference), parts.drawSeed);
  const stream = new EventStream(request.secret, request.context.nonce, () => parts.requests.abort(grant.requestId));
  const response = streamed(stream, raw.signal);
  const start = () => parts.requests.start(model, plan, grant, stream);
  await parts.lifecycle.admit(model.engine, start, raw.signal, grant.deadlineMs - parts.now());
  return response;
}

function countTokens(pool: Pool, body: Uint8Array): { prompt_tokens: number[] } {
  const request = parseBody(countRequest, body);
  const model = modelOf(pool, request.model);
  if ('messages' in request) return { prompt_tokens: [chatPrompt(model, request.messages).length] };
  return { prompt_tokens: completionPrompts(model, request.prompt).map((ids) => ids.length) };
}

/** Of one model, or of all. */
function enginesOf(pool: Pool, model: string | undefined): Set<string> {
  return new Set(model === undefined ? pool.parts.models.map(({ engine }) => engine) : [modelOf(pool, model).engine]);
}

function modelOf(pool: Pool, id: string): PoolModel {
  const model = pool.model(id);
  if (!model) throw notFound(`The model '${id}' is not served by this pool.`, 'model_not_found', 'model');
  return model;
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
