// Clients of a partition: short requests, streamed and plain, one after another, of which each says every time what it said the first; and long
// streams that are under way when a link is cut. What became of each request, and when.
import { BYTE_TEXT_EOS } from '../support/byteText.ts';
import type { GatewayClient, Tenant } from '../support/gatewayClient.ts';
import type { Told } from './client.ts';
import { tryOnce } from './client.ts';
import type { PlannedRequest } from './plan.ts';

export interface PartitionClient {
  kind: 'stream' | 'plain' | 'long';
  /** Unix milliseconds. */
  fromMs: number;
  toMs: number;
  /** null: it was answered as it had to be. */
  wrong: string | null;
  told: Told | null;
}

export interface Asked {
  tenant: Tenant;
  model: string;
  /** Who hears nothing by then has been forgotten. */
  boundMs: number;
}

const CLIENTS: readonly { kind: PartitionClient['kind']; tokens: number; count: number }[] = [
  { kind: 'long', tokens: 1400, count: 6 },
  { kind: 'stream', tokens: 50, count: 5 },
  { kind: 'plain', tokens: 30, count: 3 },
];

/** Until the signal aborts and the last request has ended. */
export async function runClients(
  gateway: GatewayClient,
  asked: Asked,
  signal: AbortSignal,
): Promise<PartitionClient[]> {
  const ended: PartitionClient[] = [];
  await Promise.all(
    CLIENTS.flatMap(({ kind, tokens, count }) =>
      Array.from({ length: count }, async (_, i) => {
        const planned = plannedOf(kind, tokens, i, asked.model);
        let first: string | null = null;
        while (!signal.aborted) {
          const one: PartitionClient = await askOnce(gateway, asked, kind, planned, first);
          first ??= one.told?.text ?? null;
          ended.push(one);
        }
      }),
    ),
  );
  return ended;
}

function plannedOf(kind: PartitionClient['kind'], tokens: number, i: number, model: string): PlannedRequest {
  const sampling = { temperature: 1, seed: i, max_tokens: tokens, logit_bias: { [BYTE_TEXT_EOS]: -100 } };
  const stream = kind === 'plain' ? {} : { stream: true, stream_options: { include_usage: true } };
  return {
    ...{
      tenant: 0,
      path: '/v1/completions',
      idempotencyKey: null,
      patienceMs: null,
      asksAgain: false,
      reusesKey: false,
    },
    body: { model, prompt: `${kind} client ${i} says`, ...sampling, ...stream },
  };
}

async function askOnce(
  gateway: GatewayClient,
  { tenant, boundMs }: Asked,
  kind: PartitionClient['kind'],
  planned: PlannedRequest,
  first: string | null,
): Promise<PartitionClient> {
  const fromMs = Date.now();
  const got = await tryOnce(gateway, planned, planned.body, tenant.key, boundMs).catch(
    (error: Error) => `${error.name} ${error.message}`,
  );
  const one = { kind, fromMs, toMs: Date.now() };
  if (typeof got === 'string') return { ...one, wrong: got, told: null };
  if (got.kind !== 'told') return { ...one, wrong: JSON.stringify(got), told: null };
  const same = first === null || got.told.text === first;
  return { ...one, wrong: same ? null : `it said ${got.told.text}, and first ${first}`, told: got.told };
}
