// POST /v1/chat/completions and /v1/completions: authenticate and reserve, choose a pool, relay, settle. Each step is a file of its
// own; this is the order in which they happen.
import { Hono } from 'hono';
import { chatRequest, completionRequest, LIMITS, promptsOf } from '../../pool/wire/inference.ts';
import { onBehalfOf, presentedKey } from '../authenticate.ts';
import { invalidRequest, modelNotFound, noPoolReady } from '../errors.ts';
import type { KeyPresented } from '../ledger/port.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';
import { rateLimitHeaders } from '../rateLimitHeaders.ts';
import { admit } from '../relay/admission.ts';
import { chatCollector, chatShaper } from '../relay/chatShape.ts';
import { completionCollector, completionShaper } from '../relay/completionShape.ts';
import { type Asked, askedOf, forPool } from '../relay/normalise.ts';
import type { Inference } from '../relay/poolClient.ts';
import { type Admitted, relay } from '../relay/relay.ts';
import { respondStreaming, respondWhole } from '../relay/respond.ts';
import { serviceGrant } from '../relay/serviceGrant.ts';
import type { Collector, ShapeHead, Shaper } from '../relay/shape.ts';
import { readJson } from '../requestBody.ts';
import { holdAttributes, type Span, traced } from '../trace.ts';
import { ConcurrencyLimit, Exchange } from './exchange.ts';

export function inferenceRoutes(ports: GatewayPorts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const limit = new ConcurrencyLimit(ports.settings.maxConcurrentRequests);
  const { maxBodyBytes, requestTimeoutMs, holdMarginMs } = ports.settings;

  const route = (path: string, read: (request: Request) => Promise<Inference>) =>
    app.post(path, async (c) => {
      const nowMs = ports.clock.now();
      const untilMs = nowMs + requestTimeoutMs + holdMarginMs;
      const sources = [c.req.raw.signal, ports.hangUp].filter((signal) => signal !== null);
      const exchange = new Exchange(limit, nowMs, untilMs, sources);
      try {
        const key = presentedKey(c.req.raw, ports);
        const job = await onBehalfOf(key, ports, async () =>
          reserve(ports, key, await read(c.req.raw), c.get('requestId'), c.get('span')),
        );
        return await answer(ports, job, exchange);
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

interface Job {
  admitted: Admitted;
  /** As the client sent it. */
  inference: Inference;
  asked: Asked;
  head: ShapeHead;
  headers: Record<string, string>;
}

/** Throws GatewayError; then nothing is held. */
async function reserve(
  ports: GatewayPorts,
  key: KeyPresented,
  inference: Inference,
  requestId: string,
  span: Span,
): Promise<Job> {
  const { registry, settler, clock, directory, keyring, random } = ports;
  const startedAtMs = clock.now();
  const asked = askedOf(inference, inference.kind === 'chat' ? 1 : promptsOf(inference.request.prompt).length);
  const choices = asked.prompts * asked.n;
  if (choices > LIMITS.prompts)
    throw invalidRequest(`${asked.prompts} prompts × n = ${asked.n} are more than ${LIMITS.prompts} choices.`, 'n');
  const choice = registry.choose(inference.request.model);
  if (choice.kind === 'unknown_model') throw modelNotFound(inference.request.model);
  if (choice.kind === 'none_ready') throw noPoolReady(inference.request.model);
  const { pool, model } = choice;
  const { tenant } = key;
  const service = await directory.service(tenant);
  settler.watch(requestId);
  const about = { 'hearth.project.id': tenant, 'gen_ai.request.model': model.id, 'hearth.choices': choices };
  const granted = await traced(ports.tracer, span, 'admit', about, async (admitting) => {
    const granted = await admit(ports, { requestId, key, inference, asked, pool, model });
    admitting.setAttributes({ 'hearth.key.id': granted.keyId, ...holdAttributes(granted.hold) });
    return granted;
  }).catch((error: unknown) => {
    settler.unwatch(requestId);
    throw error;
  });
  const { keyId, outputTokens, hold, deadlineMs } = granted;
  return {
    admitted: {
      ...{ requestId, tenant, pool, choices, hold, startedAtMs, deadlineMs, span },
      inference: forPool(inference, outputTokens, random),
      service: serviceGrant(keyring, service, { tenant, keyId }, inference.request, asked.priority),
    },
    inference,
    asked,
    head: {
      id: `${inference.kind === 'chat' ? 'chatcmpl' : 'cmpl'}-${requestId.replace(/^req_/, '')}`,
      created: Math.floor(startedAtMs / 1000),
      model: model.id,
      system_fingerprint: model.fingerprint,
    },
    headers: rateLimitHeaders(granted.limits, clock.now()),
  };
}

async function answer(ports: GatewayPorts, job: Job, exchange: Exchange): Promise<Response> {
  const { admitted, inference, asked, head, headers } = job;
  const events = relay(ports, admitted, exchange.signal);
  const { shaper, collector } = shapes(head, inference, asked.n);
  if (!asked.stream) {
    const response = await respondWhole(events, collector(), headers);
    exchange.finish();
    return response;
  }
  return respondStreaming(events, shaper(), {
    requestId: admitted.requestId,
    includeUsage: asked.includeUsage,
    headers,
    log: ports.log,
    clock: ports.clock,
    keepAliveMs: ports.settings.keepAliveMs,
    abort: () => exchange.abort(),
    finished: () => exchange.finish(),
  });
}

function shapes(
  head: ShapeHead,
  inference: Inference,
  n: number,
): { shaper: () => Shaper; collector: () => Collector } {
  if (inference.kind === 'chat') {
    const wantsLogprobs = inference.request.logprobs ?? false;
    return { shaper: () => chatShaper(head, n), collector: () => chatCollector(head, n, wantsLogprobs) };
  }
  const { prompt, echo, logprobs } = inference.request;
  const options = { prompts: promptsOf(prompt), n, echo: echo ?? false, logprobs: typeof logprobs === 'number' };
  return { shaper: () => completionShaper(head, options), collector: () => completionCollector(head, options) };
}
