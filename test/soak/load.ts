// The clients of a soak: each asks again and again, every time with another temper that a seed draws. They note what came, and nothing that
// grows.
import { setTimeout as sleep } from 'node:timers/promises';
import type { GatewayClient, Tenant } from '../support/gatewayClient.ts';
import { randomOf } from '../support/random.ts';

const TEMPERS = [
  { temper: 'stream', share: 0.4 },
  { temper: 'plain', share: 0.25 },
  { temper: 'leaves', share: 0.15 },
  { temper: 'keyed', share: 0.1 },
  { temper: 'over quota', share: 0.1 },
] as const;
type Temper = (typeof TEMPERS)[number]['temper'];

const LONGEST_PAUSE_MS = 100;
const ASK_LIMIT_MS = 120_000;

export interface Tenants {
  wide: Tenant;
  /** Its quota is used up. */
  spent: Tenant;
}

export interface LoadOptions {
  gateway: GatewayClient;
  tenants: Tenants;
  model: string;
  clients: number;
  seed: number;
}

/** How often something came, by temper and status. */
export type Tally = Map<string, number>;

/** Until the signal aborts and the last request has ended. */
export async function load(options: LoadOptions, tally: Tally, signal: AbortSignal): Promise<void> {
  await Promise.all(
    Array.from({ length: options.clients }, async (_, client) => {
      const random = randomOf(options.seed + client);
      for (let n = 0; !signal.aborted; n++) {
        const temper = drawn(random());
        const came = await ask(options, temper, `${client}-${n}`, random).catch(() => 'cut');
        const name = `${temper}: ${came}`;
        tally.set(name, (tally.get(name) ?? 0) + 1);
        await sleep(random() * LONGEST_PAUSE_MS);
      }
    }),
  );
}

function drawn(at: number): Temper {
  let sum = 0;
  for (const { temper, share } of TEMPERS) {
    sum += share;
    if (at < sum) return temper;
  }
  return 'plain';
}

async function ask(
  { gateway, tenants, model, seed }: LoadOptions,
  temper: Temper,
  name: string,
  random: () => number,
): Promise<string> {
  const chat = random() < 0.5;
  const text = `${name} ${'word '.repeat(Math.floor(random() * 20))}`;
  const body = {
    ...{ model, max_tokens: 2 + Math.floor(random() * 30), temperature: 1, n: random() < 0.2 ? 2 : 1 },
    ...(chat ? { messages: [{ role: 'user', content: text }] } : { prompt: text }),
    ...(temper !== 'plain' && { stream: true, stream_options: { include_usage: true } }),
  };
  const leaving = new AbortController();
  const timer = setTimeout(() => leaving.abort(), temper === 'leaves' ? random() * 150 : ASK_LIMIT_MS);
  const send = async () => {
    const response = await gateway.request('POST', chat ? '/v1/chat/completions' : '/v1/completions', {
      ...{ key: (temper === 'over quota' ? tenants.spent : tenants.wide).key, body, signal: leaving.signal },
      ...(temper === 'keyed' && { idempotencyKey: `soak-${seed}-${name}` }),
    });
    const said = await response.text();
    const broke = response.ok && said.includes('data: {"error"');
    return broke ? 'error event' : String(response.status);
  };
  try {
    const came = await send();
    return temper === 'keyed' ? `${came}, again ${await send()}` : came;
  } finally {
    clearTimeout(timer);
  }
}
