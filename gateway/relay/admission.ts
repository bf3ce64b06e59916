// From a checked request to a hold: bound the prompt, ask the ledger for room, and count exactly first where the bound alone might
// refuse somebody who fits. What the ledger refuses becomes the answer of the error table here.
import type { ServedModel } from '../../pool/wire/events.ts';
import { authenticate, keyRefused } from '../authenticate.ts';
import { fromPool, GatewayError, invalidRequest, poolFailed } from '../errors.ts';
import { invariant } from '../invariant.ts';
import type { Admission, KeyPresented, QuotaState } from '../ledger/port.ts';
import type { GatewayPorts } from '../ports.ts';
import { rateLimitHeaders } from '../rateLimitHeaders.ts';
import { boundOfChat, boundOfCompletion, type PromptBound } from './bound.ts';
import type { Asked } from './normalise.ts';
import type { Inference } from './poolClient.ts';
import type { PoolState } from './poolRegistry.ts';
import { PoolRequestError } from './poolRequest.ts';

/** When only running requests stand in the way: about as long as one of them takes to end. */
const RETRY_AFTER_HOLDS_MS = 1000;

export interface AdmissionRequest {
  requestId: string;
  key: KeyPresented;
  inference: Inference;
  asked: Asked;
  pool: PoolState;
  model: ServedModel;
}

export type Granted = Extract<Admission, { kind: 'granted' }> & { deadlineMs: number };

/** Throws GatewayError; then nothing is held. */
export async function admit(ports: GatewayPorts, request: AdmissionRequest): Promise<Granted> {
  const { key, inference, asked, model } = request;
  let bound =
    inference.kind === 'chat'
      ? boundOfChat(inference.request.messages, model)
      : boundOfCompletion(inference.request.prompt, model);
  if (!bound.exact && looseForContext(ports, request, bound)) {
    await authenticate(key, ports);
    bound = await count(ports, request);
  }
  for (;;) {
    refuseOverContext(bound, asked, request);
    const { admission, deadlineMs } = await ask(ports, request, bound);
    if (admission.kind === 'granted') return { ...admission, deadlineMs };
    if (admission.kind !== 'count_first') throw refusal(ports, admission);
    invariant(!bound.exact, 'an exact count is not counted again');
    bound = await count(ports, request);
  }
}

function defaultOutput({ settings }: GatewayPorts, { inference }: AdmissionRequest): number {
  return inference.kind === 'chat' ? settings.chatMaxTokens : settings.completionMaxTokens;
}

/** Whether the room that a loose bound leaves in the context would cut the default output short. */
function looseForContext(ports: GatewayPorts, request: AdmissionRequest, bound: PromptBound): boolean {
  if (request.asked.maxTokens !== null) return false;
  return request.model.context_length - bound.longestTokens < defaultOutput(ports, request);
}

async function ask(ports: GatewayPorts, request: AdmissionRequest, bound: PromptBound) {
  const { settings, clock, ledger } = ports;
  const { asked, model, requestId, key, pool } = request;
  const left = Math.max(1, model.context_length - bound.longestTokens);
  const nowMs = clock.now();
  const deadlineMs = nowMs + settings.requestTimeoutMs;
  const admission = await ledger.admit({
    ...key,
    requestId,
    model: model.id,
    pool: pool.client.target.id,
    demand: {
      promptTokens: bound.tokens,
      promptExact: bound.exact,
      choices: asked.prompts * asked.n,
      outputTokens: asked.maxTokens ?? Math.min(left, defaultOutput(ports, request)),
      outputFlexible: asked.maxTokens === null,
    },
    nowMs,
    deadlineMs,
    expiresMs: deadlineMs + settings.holdMarginMs,
  });
  return { admission, deadlineMs };
}

async function count({ counts }: GatewayPorts, request: AdmissionRequest): Promise<PromptBound> {
  try {
    return await counts.exact(request.pool.client, request.model, request.inference);
  } catch (error) {
    if (!(error instanceof PoolRequestError)) throw error;
    throw error.failure.kind === 'refused' ? fromPool(error.failure.error, request.requestId) : poolFailed();
  }
}

function refuseOverContext(bound: PromptBound, asked: Asked, { model, inference }: AdmissionRequest): void {
  const promptTokens = bound.exact ? bound.longestTokens : 0;
  const outputTokens = asked.maxTokens ?? 1;
  if (promptTokens + outputTokens <= model.context_length) return;
  const param = inference.kind === 'chat' ? 'messages' : 'prompt';
  const prompt = bound.exact ? `${promptTokens} in the ${param}` : `besides the ${param}`;
  throw invalidRequest(
    `This model's maximum context length is ${model.context_length} tokens. However, you requested ${promptTokens + outputTokens} tokens (${prompt}, ${outputTokens} in the completion). Please reduce the length of the ${param} or the completion.`,
    param,
    'context_length_exceeded',
  );
}

function refusal(
  { metrics, clock }: GatewayPorts,
  admission: Exclude<Admission, { kind: 'granted' | 'count_first' }>,
): GatewayError {
  if (!('quota' in admission)) return keyRefused(admission.kind);
  const { kind, quota, neededTokens } = admission;
  metrics.refused(kind);
  const name = quotaName(quota);
  const headers = rateLimitHeaders(admission.quotas, clock.now());
  const state = `limit ${quota.limitTokens}, used ${quota.settledTokens}, held by running requests ${quota.heldTokens}`;
  const needs = `This request needs at least ${neededTokens} tokens`;
  if (kind === 'too_large')
    return invalidRequest(
      `${needs}, which is more than ${name} of ${quota.limitTokens} tokens. Shorten the prompt, or lower max_tokens.`,
      null,
    );
  if (kind === 'held')
    return new GatewayError({
      status: 429,
      type: 'tokens',
      code: 'rate_limit_exceeded',
      message: `${needs}, but ${name} has no room until running requests end (${state}). Retry.`,
      retryAfterMs: RETRY_AFTER_HOLDS_MS,
      headers,
    });
  const resets =
    quota.resetsAtMs === null ? 'It does not reset' : `It resets at ${new Date(quota.resetsAtMs).toISOString()}`;
  return new GatewayError({
    status: 429,
    type: 'insufficient_quota',
    code: 'insufficient_quota',
    message: `${needs}, but ${name} has no room for it (${state}). ${resets}; lower max_tokens, or ask for a higher limit.`,
    neverRetry: true,
    headers,
    ...(quota.resetsAtMs !== null && { retryAfterMs: Math.max(1000, quota.resetsAtMs - clock.now()) }),
  });
}

function quotaName({ window, models }: QuotaState): string {
  const name = { day: 'the daily quota', month: 'the monthly quota', lifetime: 'the lifetime quota' }[window];
  return models ? `${name} for ${models.join(', ')}` : name;
}
