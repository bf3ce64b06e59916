// From a checked request to a hold: bound the prompt, ask the ledger for room, and count exactly first where the bound alone might
// refuse somebody who fits.
import type { ServedModel } from '../../pool/wire/events.ts';
import { authenticateFor } from '../authenticate.ts';
import { fromPool, invalidRequest, poolFailed } from '../errors.ts';
import { invariant } from '../invariant.ts';
import type { Admission, KeyPresented, NewAttempt } from '../ledger/port.ts';
import type { GatewayPorts } from '../ports.ts';
import { boundOfChat, boundOfCompletion, type PromptBound } from './bound.ts';
import type { Asked } from './normalise.ts';
import type { Inference } from './poolClient.ts';
import type { PoolState } from './poolRegistry.ts';
import { PoolRequestError } from './poolRequest.ts';
import { refusal } from './refusal.ts';

export interface AdmissionRequest {
  requestId: string;
  key: KeyPresented;
  inference: Inference;
  asked: Asked;
  pool: PoolState;
  model: ServedModel;
  /** The client waits so long at most; null: as long as the gateway does. */
  timeoutMs: number | null;
  /** Where it came under an idempotency key. */
  idempotency: NewAttempt | null;
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
    await authenticateFor(model.id, key, ports);
    bound = await count(ports, request);
  }
  for (;;) {
    refuseOverContext(bound, asked, request);
    const { admission, deadlineMs } = await ask(ports, request, bound);
    if (admission.kind === 'granted') return { ...admission, deadlineMs };
    if (admission.kind !== 'count_first') throw refusal(ports, model.id, admission);
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
  const { settings, clock, ledger, prices } = ports;
  const { asked, model, requestId, key, pool, idempotency } = request;
  const left = Math.max(1, model.context_length - bound.longestTokens);
  const nowMs = clock.now();
  const timeoutMs = Math.min(settings.requestTimeoutMs, request.timeoutMs ?? Number.POSITIVE_INFINITY);
  const deadlineMs = nowMs + timeoutMs;
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
    price: await prices.priceAt(model.id, nowMs),
    nowMs,
    deadlineMs,
    expiresMs: deadlineMs + settings.holdMarginMs,
    ...(idempotency && { idempotency }),
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
