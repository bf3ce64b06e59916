// The HTTP face of a pool whose engine is a foreign server: the door of every pool, inference, counting, and plain answers to what only an
// engine of our own can do.
import type { Hono } from 'hono';
import type { Signed } from '../authenticate.ts';
import { openDoor } from '../door.ts';
import { fingerprintMismatch, wrongState } from '../errors.ts';
import { EventStream, streamed } from '../eventStream.ts';
import { grantOf, withPriority } from '../grant.ts';
import type { Inference } from '../plan.ts';
import { parseBody } from '../validate.ts';
import { countRequest, poolChatRequest, poolCompletionRequest } from '../wire/inference.ts';
import { digestOfSet, prefixSet } from '../wire/publicPrefixes.ts';
import { asPoolError } from './errors.ts';
import type { UpstreamPool } from './pool.ts';
import { translate } from './translate.ts';

const NO_PREFIXES = 'The engine of this pool is a foreign server, where nothing can be declared public.';

export function createUpstreamApp(pool: UpstreamPool): Hono {
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
    signed(async ({ body }) => ({ status: 200, body: await count(pool, body) })),
  );
  app.get(
    '/pool/status',
    signed(() => ({ status: 200, body: pool.status() })),
  );
  app.put(
    '/pool/public_prefixes',
    signed(({ body }) => {
      const set = parseBody(prefixSet, body);
      pool.publicPrefixes = digestOfSet(set);
      const prefixes = set.prefixes.map(({ id }) => ({ id, state: 'refused', tokens: 0, reason: NO_PREFIXES }));
      return { status: 200, body: { digest: pool.publicPrefixes, prefixes } };
    }),
  );
  for (const path of ['/pool/sleep', '/pool/wake', '/pool/public_prefixes/render'])
    app.post(
      path,
      signed(() => {
        throw wrongState('The engine of this pool is a foreign server, which this pool does not command.');
      }),
    );
  return app;
}

async function infer(pool: UpstreamPool, request: Signed, raw: Request, kind: Inference['kind']): Promise<Response> {
  const { requests, life, settings, drawSalt, now } = pool.parts;
  const grant = grantOf(request.context);
  const inference: Inference =
    kind === 'chat'
      ? { kind, request: parseBody(poolChatRequest, request.body) }
      : { kind, request: parseBody(poolCompletionRequest, request.body) };
  const model = pool.model(inference.request.model);
  if (inference.request.resume) throw fingerprintMismatch(model.id); // its own is nobody's, and tells no ids
  const asked = translate(settings, model, inference, withPriority(grant, request.context, inference), drawSalt);
  const stream = new EventStream(request.secret, request.context.nonce, () => requests.abort(grant.requestId));
  const response = streamed(stream, raw.signal);
  const start = () => requests.start(model, inference, asked, grant, stream);
  await pool.arrivals.until(grant, model.id, () => life.admit(model.id, start, raw.signal, grant.deadlineMs - now()));
  pool.attendance.attend(stream, request.context, () => requests.lose(grant.requestId));
  return response;
}

async function count(pool: UpstreamPool, body: Uint8Array): Promise<{ prompt_tokens: number[] }> {
  const request = parseBody(countRequest, body);
  try {
    return { prompt_tokens: await pool.parts.questions.count(pool.model(request.model), request) };
  } catch (error) {
    throw asPoolError(error);
  }
}
