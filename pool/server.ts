// The pool's HTTP face (internal: its only client is the gateway), beyond what the door of every pool has. It decides nothing itself; it
// carries between the wire and the pool.
import type { Hono } from 'hono';
import type { Signed } from './authenticate.ts';
import { openDoor } from './door.ts';
import { notFound } from './errors.ts';
import { EventStream, streamed } from './eventStream.ts';
import { grantOf, withPriority } from './grant.ts';
import { type Inference, planRequest } from './plan.ts';
import type { Pool } from './pool.ts';
import { prefixTokens } from './prefixTokens.ts';
import { chatPrompt, completionPrompts } from './prompt.ts';
import type { PoolModel } from './servedModel.ts';
import { parseBody } from './validate.ts';
import { kvEvents, statusOf } from './watchRoutes.ts';
import { moveBody } from './wire/events.ts';
import { countRequest, poolChatRequest, poolCompletionRequest } from './wire/inference.ts';
import { prefixDeclaration, prefixSet } from './wire/publicPrefixes.ts';

export function createPoolApp(pool: Pool): Hono {
  const { parts, nonces, attendance, arrivals } = pool;
  const { identity, journal, metrics, maxBodyBytes, now, log } = parts;
  const { app, signed } = openDoor({
    ...{ identity, nonces, attendance, arrivals, journal, metrics, maxBodyBytes, now, log },
    ready: () => pool.ready,
    status: () => pool.status(),
    drain: () => pool.drain(),
    metricsText: () => pool.metricsText(),
  });

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
  await pool.arrivals.until(grant, model.id, () =>
    parts.lifecycle.admit(model.engine, start, raw.signal, grant.deadlineMs - parts.now()),
  );
  pool.attendance.attend(stream, request.context, () => parts.requests.lose(grant.requestId));
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
