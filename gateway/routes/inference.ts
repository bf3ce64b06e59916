// POST /v1/chat/completions and /v1/completions: authenticate, recall, choose a pool, reserve, relay, settle. Each step is a file of its
// own; this is the order in which they happen.
import { Hono } from 'hono';
import { chatRequest, completionRequest, LIMITS, promptsOf } from '../../pool/wire/inference.ts';
import { authenticateFor, onBehalfOf, presentedKey } from '../authenticate.ts';
import { ByteBudget, type Share } from '../byteBudget.ts';
import { invalidRequest, modelNotFound, noPoolReady } from '../errors.ts';
import { requestOf } from '../ledger/idempotency.ts';
import type { KeyPresented } from '../ledger/port.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';
import { rateLimitHeaders } from '../rateLimitHeaders.ts';
import { admit } from '../relay/admission.ts';
import { type Answer, KeptAnswer, MAX_KEPT_BYTES_AT_ONCE } from '../relay/answer.ts';
import { answerOf } from '../relay/answerShape.ts';
import { type Asked, askedOf, drawSeed, forPool } from '../relay/normalise.ts';
import { Onward } from '../relay/onward.ts';
import type { Inference } from '../relay/poolClient.ts';
import { idempotencyKeyOf, type KeyedAttempt, recall } from '../relay/recall.ts';
import { type Admitted, relay } from '../relay/relay.ts';
import { requestTimeoutOf } from '../relay/requestTimeout.ts';
import { replay, respondStreaming, respondWhole } from '../relay/respond.ts';
import { RetryBudget } from '../relay/retryBudget.ts';
import { serviceGrant } from '../relay/serviceGrant.ts';
import { MAX_TOLD_BYTES_AT_ONCE } from '../relay/told.ts';
import { readJson } from '../requestBody.ts';
import { promptPieces, sharingScope } from '../routing/promptPieces.ts';
import { holdAttributes, type Span, traced } from '../trace.ts';
import { ConcurrencyLimit, Exchange } from './exchange.ts';

export function inferenceRoutes(ports: GatewayPorts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const limit = new ConcurrencyLimit(ports.settings.maxConcurrentRequests, ports.hangUp);
  const { registry, clock } = ports;
  const { maxBodyBytes, requestTimeoutMs, holdMarginMs, failoverWaitMs } = ports.settings;
  const retries = new RetryBudget();
  const way: Way = {
    onward: new Onward({ registry, clock, budget: retries, waitMs: failoverWaitMs, freshen: ports.freshenPools }),
    retries,
    kept: new ByteBudget(MAX_KEPT_BYTES_AT_ONCE),
    told: new ByteBudget(MAX_TOLD_BYTES_AT_ONCE),
  };

  const route = (path: string, read: (request: Request) => Promise<Inference>) =>
    app.post(path, async (c) => {
      const nowMs = ports.clock.now();
      const untilMs = nowMs + requestTimeoutMs + holdMarginMs;
      const exchange = new Exchange(limit, nowMs, untilMs, c.req.raw.signal);
      try {
        const key = presentedKey(c.req.raw, ports);
        const job = await onBehalfOf(key, ports, async () => {
          const idempotencyKey = idempotencyKeyOf(c.req.raw);
          const timeoutMs = requestTimeoutOf(c.req.raw);
          const inference = await read(c.req.raw);
          return reserve(
            ports,
            key,
            { inference, idempotencyKey, timeoutMs, requestId: c.get('requestId') },
            c.get('span'),
          );
        });
        c.set('requestId', job.requestId);
        const headers = () => ({ ...job.headers, ...c.get('commonHeaders')() });
        return await answer(ports, job, headers, exchange, way);
      } catch (error) {
        exchange.finish();
        throw error;
      }
    });
  route('/v1/chat/completions', async (request) => ({
    kind: 'chat',
    request: await readJson(request, chatRequest, maxBodyBytes),
  }));
  route('/v1/completions', async (request) => ({
    kind: 'completion',
    request: await readJson(request, completionRequest, maxBodyBytes),
  }));
  return app;
}

/** What requests share on their way: where they may go on, and the memory that they have for it together. */
interface Way {
  onward: Onward;
  retries: RetryBudget;
  kept: ByteBudget;
  told: ByteBudget;
}

interface Requested {
  /** As the client sent it. */
  inference: Inference;
  idempotencyKey: string | null;
  /** So long the client waits; null: it did not say. */
  timeoutMs: number | null;
  requestId: string;
}

interface Work {
  admitted: Omit<Admitted, 'keep' | 'memory'>;
  answer: Answer;
  attempt: KeyedAttempt | null;
}

interface Job {
  /** As the client is told it: of the first attempt. */
  requestId: string;
  asked: Asked;
  headers: Record<string, string>;
  /** What runs, or the answer that is there already. */
  work: Work | Uint8Array;
}

/** Throws GatewayError; then nothing is held. */
async function reserve(
  ports: GatewayPorts,
  key: KeyPresented,
  { inference, idempotencyKey, timeoutMs, requestId }: Requested,
  span: Span,
): Promise<Job> {
  const { registry, settler, clock, directory, keyring, random } = ports;
  const startedAtMs = clock.now();
  const asked = askedOf(inference, inference.kind === 'chat' ? 1 : promptsOf(inference.request.prompt).length);
  const choices = asked.prompts * asked.n;
  if (choices > LIMITS.prompts)
    throw invalidRequest(`${asked.prompts} prompts × n = ${asked.n} are more than ${LIMITS.prompts} choices.`, 'n');
  const { tenant } = key;
  const service = await directory.service(tenant);
  const seed = inference.request.seed ?? drawSeed(random);
  let attempt: KeyedAttempt | null = null;
  // Without a salt the project is archived: the ledger will say so.
  if (idempotencyKey !== null && service.cacheSalt) {
    const request = { key: idempotencyKey, salt: service.cacheSalt, inference, requestId, seed };
    const recalled = await recall(ports, key, request);
    if (recalled.kind === 'answered')
      return { requestId: recalled.requestId, asked, headers: recalled.headers, work: recalled.body };
    attempt = recalled.attempt;
  }
  const choice = registry.choose(inference.request.model, {
    piecesOf: () => promptPieces(inference, sharingScope(service, key, inference.request)),
  });
  if (choice.kind === 'unknown_model') throw modelNotFound(inference.request.model);
  if (choice.kind === 'none_ready') {
    await authenticateFor(inference.request.model, key, ports);
    throw noPoolReady(inference.request.model);
  }
  const { pool, model } = choice;
  const id = attempt?.id ?? requestId;
  const notReserved = settler.watch(id);
  const about = { 'hearth.project.id': tenant, 'gen_ai.request.model': model.id, 'hearth.choices': choices };
  const granted = await traced(ports.tracer, span, 'admit', about, async (admitting) => {
    const idempotency = attempt?.idempotency ?? null;
    const granted = await admit(ports, { requestId: id, key, inference, asked, pool, model, timeoutMs, idempotency });
    admitting.setAttributes({ 'hearth.key.id': granted.keyId, ...holdAttributes(granted.hold) });
    return granted;
  }).catch((error: unknown) => {
    notReserved();
    throw error;
  });
  const { keyId, outputTokens, hold, deadlineMs } = granted;
  const told = requestOf(id);
  const head = {
    id: `${inference.kind === 'chat' ? 'chatcmpl' : 'cmpl'}-${told.replace(/^req_/, '')}`,
    created: Math.floor(startedAtMs / 1000),
    model: model.id,
    system_fingerprint: model.fingerprint,
    ...(asked.serviceTier && { service_tier: asked.serviceTier }),
  };
  return {
    requestId: told,
    asked,
    headers: rateLimitHeaders(granted.limits, clock.now()),
    work: {
      answer: answerOf(head, inference, asked),
      attempt,
      admitted: {
        ...{ requestId: id, tenant, place: choice, choices, hold, startedAtMs, deadlineMs, span },
        inference: forPool(inference, outputTokens, granted.seed ?? seed),
        service: serviceGrant(keyring, service, { tenant, keyId }, inference.request, asked.priority),
        moved: (fingerprint) => {
          head.system_fingerprint = fingerprint;
        },
      },
    },
  };
}

async function answer(
  ports: GatewayPorts,
  { asked, work }: Job,
  headers: () => Record<string, string>,
  exchange: Exchange,
  way: Way,
): Promise<Response> {
  if (work instanceof Uint8Array) {
    exchange.finish();
    return replay(work, asked.stream, headers);
  }
  const untilMs = work.admitted.deadlineMs + ports.settings.holdMarginMs;
  const share = (budget: ByteBudget) => budget.share(ports.clock.now(), untilMs);
  const { answer, keep } = kept(work, exchange, () => share(way.kept));
  way.retries.put();
  const relayPorts = { ...ports, onward: way.onward };
  const events = relay(relayPorts, { ...work.admitted, keep, memory: share(way.told) }, exchange.signal);
  if (!asked.stream) {
    const response = await respondWhole(events, answer, headers);
    exchange.finish();
    return response;
  }
  return respondStreaming(events, answer, {
    requestId: work.admitted.requestId,
    headers,
    log: ports.log,
    clock: ports.clock,
    keepAliveMs: ports.settings.keepAliveMs,
    abort: () => exchange.abort(),
    finished: () => exchange.finish(),
  });
}

/** The answer, remembered while it is made where a key may ask for it again. */
function kept(
  { answer, attempt }: Work,
  exchange: Exchange,
  share: () => Share,
): Pick<Work, 'answer'> & Pick<Admitted, 'keep'> {
  if (!attempt) return { answer, keep: null };
  const remembered = new KeptAnswer(answer, share());
  exchange.atEnd(() => remembered.release());
  const keep: Admitted['keep'] = async (done, bill) => {
    const whole = remembered.whole(done, bill);
    return whole && attempt.seal(whole);
  };
  return { answer: remembered, keep };
}
