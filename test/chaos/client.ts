// One planned request as a client sends it that has to live with what happens: with a key it comes back until it has its answer or a
// refusal that is final; without one it takes what it gets.
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { GatewayClient } from '../support/gatewayClient.ts';
import type { PlannedRequest, PlannedTenant } from './plan.ts';

export interface Told {
  requestId: string;
  promptTokens: number;
  completionTokens: number;
  text: string;
  replayed: boolean;
}

export type Ending =
  | { kind: 'answered'; told: Told; tries: number }
  /** `lost`: without a key nobody knows what became of it. */
  | { kind: 'refused' | 'lost' | 'given_up'; tries: number }
  /** Against what was promised. */
  | { kind: 'wrong'; what: string };

type Try = { kind: 'told'; told: Told } | { kind: 'status'; status: number; code: string } | { kind: 'cut' };

/** In progress, no pool, past its deadline. */
const PASSING: ReadonlySet<number> = new Set([409, 503, 504]);
const PAUSE_MS = 100;
const GIVE_UP_MS = 120_000;

const usage = z.object({ prompt_tokens: z.int(), completion_tokens: z.int() });
const whole = z.object({
  choices: z.array(z.object({ text: z.string().optional(), message: z.object({ content: z.string() }).optional() })),
  usage,
});
const chunk = z.object({
  choices: z
    .array(
      z.object({
        index: z.int(),
        text: z.string().optional(),
        delta: z.object({ content: z.string().optional() }).optional(),
      }),
    )
    .optional(),
  usage: usage.nullish(),
  error: z.unknown().optional(),
});

export async function runClient(
  gateway: GatewayClient,
  planned: PlannedRequest,
  { tenant }: PlannedTenant,
): Promise<Ending> {
  const giveUpAtMs = Date.now() + GIVE_UP_MS;
  const ask = (body: unknown, patienceMs: number | null) =>
    tryOnce(gateway, planned, body, tenant.key, patienceMs).catch((): Try => ({ kind: 'cut' }));
  let patience = planned.patienceMs;
  for (let tries = 1; ; tries++) {
    const got = await ask(planned.body, patience);
    patience = null;
    if (got.kind === 'told') return again(ask, planned, got.told, tries);
    if (got.kind === 'status' && isFinal(got)) return { kind: 'refused', tries };
    if (got.kind === 'status' && !PASSING.has(got.status))
      return { kind: 'wrong', what: `answered ${got.status} ${got.code}` };
    if (planned.idempotencyKey === null) return { kind: 'lost', tries };
    if (Date.now() > giveUpAtMs) return { kind: 'given_up', tries };
    await sleep(PAUSE_MS);
  }
}

function isFinal({ status, code }: { status: number; code: string }): boolean {
  return status === 429 || code === 'idempotency_attempts_exhausted';
}

/** After its answer: the same to the letter under the same key, and nothing for another body. */
async function again(
  ask: (body: unknown, patienceMs: null) => Promise<Try>,
  planned: PlannedRequest,
  told: Told,
  tries: number,
): Promise<Ending> {
  if (planned.idempotencyKey === null) return { kind: 'answered', told, tries };
  for (const body of [
    ...(planned.asksAgain ? [planned.body] : []),
    ...(planned.reusesKey ? [{ ...planned.body, n: 3 }] : []),
  ]) {
    let got = await ask(body, null);
    while (got.kind !== 'told' && (got.kind === 'cut' || got.status !== 422)) {
      await sleep(PAUSE_MS);
      got = await ask(body, null);
    }
    const same =
      got.kind === 'told' && got.told.replayed && got.told.text === told.text && got.told.requestId === told.requestId;
    if (body === planned.body ? !same : got.kind === 'told')
      return { kind: 'wrong', what: `asked again, ${told.requestId} said ${JSON.stringify(got)}` };
  }
  return { kind: 'answered', told, tries };
}

/** Rejects when it is cut off, or its patience ends. */
export async function tryOnce(
  gateway: GatewayClient,
  planned: PlannedRequest,
  body: unknown,
  key: string,
  patienceMs: number | null,
): Promise<Try> {
  const { idempotencyKey } = planned;
  const response = await gateway.request('POST', planned.path, {
    ...{ key, body },
    ...(idempotencyKey !== null && { idempotencyKey }),
    ...(patienceMs !== null && { signal: AbortSignal.timeout(patienceMs) }),
  });
  const text = await response.text();
  if (!response.ok) {
    const { error } = z.object({ error: z.object({ code: z.string().nullable() }) }).parse(JSON.parse(text));
    return { kind: 'status', status: response.status, code: error.code ?? '' };
  }
  const requestId = response.headers.get('x-request-id') ?? '';
  const replayed = response.headers.get('idempotent-replayed') === 'true';
  const said = planned.body.stream === true ? streamed(text) : answered(text);
  return said ? { kind: 'told', told: { ...said, requestId, replayed } } : { kind: 'cut' };
}

type Said = Pick<Told, 'text' | 'promptTokens' | 'completionTokens'>;

function answered(text: string): Said {
  const { choices, usage } = whole.parse(JSON.parse(text));
  return saidOf(
    choices.map((one) => one.text ?? one.message?.content ?? ''),
    usage,
  );
}

/** null: the stream did not come to its end. */
function streamed(text: string): Said | null {
  const events = text.split('\n\n').flatMap((event) => (event.startsWith('data: ') ? event.slice(6) : []));
  if (events.pop() !== '[DONE]') return null;
  const chunks = events.map((event) => chunk.parse(JSON.parse(event)));
  const texts: string[] = [];
  for (const one of chunks.flatMap(({ choices = [] }) => choices))
    texts[one.index] = (texts[one.index] ?? '') + (one.text ?? one.delta?.content ?? '');
  const last = chunks.at(-1)?.usage;
  return last ? saidOf(texts, last) : null;
}

function saidOf(texts: readonly string[], used: z.infer<typeof usage>): Said {
  return { text: JSON.stringify(texts), promptTokens: used.prompt_tokens, completionTokens: used.completion_tokens };
}
