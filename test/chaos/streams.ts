// Streams whose pools die under them: every client gets what it got in the run before, in which nothing died. Two pools of the real engine, killed
// with SIGKILL and robbed of their devices at moments that a seed draws, counted in tokens that clients have read; afterwards the books.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { invariant } from '../../engine/invariant.ts';
import { ADMIN_KEY, type GatewayClient, type Tenant } from '../support/gatewayClient.ts';
import { GatewayProcess } from '../support/gatewayProcess.ts';
import { randomOf } from '../support/random.ts';
import { faultsOf } from './books.ts';
import type { Told } from './client.ts';
import { namedOf, type OpenPool, openPool, settled } from './stage.ts';

const MAIN = fileURLToPath(new URL('../support/losingPoolMain.ts', import.meta.url));

export interface StreamsOptions {
  seed: number;
  streams: number;
  /** Output tokens of each choice, at most. */
  tokens: number;
  kills: number;
  losses: number;
  /** A model file, and what the pools are told of it beside. */
  path: string;
  model?: Record<string, unknown>;
  dawnFlags?: readonly string[];
  env?: Record<string, string | undefined>;
  say: (line: string) => void;
}

export interface StreamsReport {
  /** Streams that said something else than they had, in words. */
  different: string[];
  /** What is wrong with the books. */
  faults: string[];
  /** Requests that more than one pool, or life of a pool, has a receipt of. */
  moved: number;
  /** Times that the gateway took a request on elsewhere. */
  reroutes: number;
  /** Devices that pools say they have lost. */
  devicesLost: number;
  seconds: { calm: number; stormy: number };
}

const MODEL = 'served';
const POOL_IDS = ['pool-a', 'pool-b'];
/** A pool that begins anew loads its model. */
const FAILOVER_WAIT_MS = 120_000;

export async function streams(options: StreamsOptions): Promise<StreamsReport> {
  const { seed, say } = options;
  const folder = mkdtempSync(join(tmpdir(), 'hearth-streams-'));
  const loseFile = (poolId: string) => join(folder, `${poolId}-lose`);
  const pools = await Promise.all(
    POOL_IDS.map((poolId) =>
      openPool(poolId, folder, {
        model: MODEL,
        engine: {
          models: [{ id: MODEL, path: options.path, ...options.model }],
          ...(options.dawnFlags && { section: { dawnFlags: options.dawnFlags } }),
          supervisor: { args: [MAIN], env: { ...process.env, ...options.env, HEARTH_TEST_LOSE: loseFile(poolId) } },
        },
      }),
    ),
  );
  const named = pools.map(({ pool }) => namedOf(pool, MODEL));
  const limits = { requestTimeoutMs: 600_000, failoverWaitMs: FAILOVER_WAIT_MS };
  const gateway = await GatewayProcess.start(named, { limits });
  try {
    const tenant = await gateway.tenant([{ window: 'lifetime', limit_tokens: 100_000_000 }]);
    const random = randomOf(seed);
    const asked = Array.from({ length: options.streams }, (_, n) => planStream(n, options.tokens, random));
    const progress = { tokens: 0 };
    const run = () => Promise.all(asked.map((one) => ask(gateway, tenant, one, progress)));
    const calmAtMs = Date.now();
    const calm = await run();
    const stormAtMs = Date.now();
    const expected = progress.tokens;
    say(`${asked.length} streams, ${expected} events without a fault: ${(stormAtMs - calmAtMs) / 1000} s`);
    progress.tokens = 0;
    const over = new AbortController();
    const [stormy] = await Promise.all([
      run().finally(() => over.abort()),
      strike(options, pools, loseFile, () => progress.tokens / expected, over.signal),
    ]);
    const endMs = Date.now();
    const different = asked.flatMap((one, i) => {
      const [was, is] = [JSON.stringify(calm[i]?.said), JSON.stringify(stormy[i]?.said)];
      return was === is ? [] : [`stream ${i} ${JSON.stringify(one)}:\n  was ${was}\n  is  ${is}`];
    });
    const metrics = await (await gateway.request('GET', '/metrics', { key: ADMIN_KEY })).text();
    const reroutes = [...metrics.matchAll(/^hearth_gateway_reroutes_total\{.*\} (\d+)$/gm)];
    await settled(gateway, pools);
    await gateway.kill();
    const receipts = pools.flatMap(({ archive }) => [...archive.receipts().values()]);
    const told = [...calm, ...stormy].map(toldOf);
    const records = { path: join(gateway.folder, 'gateway.sqlite'), receipts, tenants: [], told };
    return {
      different,
      faults: faultsOf(records),
      moved: receipts.length - new Set(receipts.map(({ request_id }) => request_id)).size,
      devicesLost: pools.flatMap(({ pool }) => pool.log).filter((line) => line.includes('"device_lost"')).length,
      reroutes: reroutes.reduce((sum, [, n]) => sum + Number(n), 0),
      seconds: { calm: (stormAtMs - calmAtMs) / 1000, stormy: (endMs - stormAtMs) / 1000 },
    };
  } finally {
    await gateway.stop();
    await Promise.all(pools.map((pool) => pool.close()));
    rmSync(folder, { recursive: true, force: true });
  }
}

interface PlannedStream {
  path: '/v1/chat/completions' | '/v1/completions';
  body: Record<string, unknown>;
}

/** Greedy and seeded, one choice and two, stop strings of one and more tokens, logprobs, penalties, chats and completions with echo. */
function planStream(n: number, tokens: number, random: () => number): PlannedStream {
  const chance = (share: number) => random() < share;
  const chat = chance(0.5);
  const text = `${n}: ${Array.from({ length: 3 + Math.floor(random() * 10) }, () => Math.floor(random() * 1000)).join(' ')}`;
  const echo = !chat && chance(0.3);
  const logprobs = chance(0.4);
  const body = {
    ...{ model: MODEL, stream: true, stream_options: { include_usage: true }, seed: n },
    max_tokens: Math.ceil(tokens * (0.5 + 0.5 * random())),
    temperature: chance(0.4) ? 0 : 0.5 + random(),
    n: chance(0.4) ? 2 : 1,
    ...(chance(0.5) && { stop: STOPS }),
    ...(chance(0.3) && { frequency_penalty: 0.8, presence_penalty: 0.3, repetition_penalty: 1.1 }),
    ...(chance(0.3) && { top_p: 0.9, top_k: 40 }),
    ...(logprobs && (chat ? { logprobs: true, top_logprobs: 2 } : { logprobs: 2 })),
    ...(echo && { echo }),
  };
  if (chat) return { path: '/v1/chat/completions', body: { ...body, messages: [{ role: 'user', content: text }] } };
  return { path: '/v1/completions', body: { ...body, prompt: text } };
}

/** Beginnings of them are held back until it is clear what they are. */
const STOPS = ['. The', '\n\n\n', 'zebra'];

const chunk = z.object({
  error: z.unknown().optional(),
  choices: z
    .array(
      z.object({
        index: z.int(),
        text: z.string().optional(),
        delta: z.object({ content: z.string().optional() }).optional(),
        finish_reason: z.string().nullable(),
        logprobs: z.record(z.string(), z.unknown()).nullish(),
      }),
    )
    .optional(),
  usage: z.object({ prompt_tokens: z.int(), completion_tokens: z.int() }).nullish(),
});
type Chunk = z.infer<typeof chunk>;

interface Heard {
  requestId: string;
  /** What is to be the same; pieces may be cut otherwise. */
  said: { choices: unknown[]; usage: Chunk['usage']; whole: boolean; error: unknown };
}

async function ask(
  gateway: GatewayClient,
  tenant: Tenant,
  { path, body }: PlannedStream,
  progress: { tokens: number },
): Promise<Heard> {
  const response = await gateway.request('POST', path, { key: tenant.key, body });
  const decoder = new TextDecoder();
  let text = '';
  for await (const bytes of response.body ?? []) {
    text += decoder.decode(bytes, { stream: true });
    progress.tokens += 1;
  }
  const events = text.split('\n\n').flatMap((event) => (event.startsWith('data: ') ? event.slice(6) : []));
  const whole = events.at(-1) === '[DONE]';
  const chunks = events.filter((event) => event !== '[DONE]').map((event) => chunk.parse(JSON.parse(unescaped(event))));
  const parts = Map.groupBy(
    chunks.flatMap(({ choices = [] }) => choices),
    ({ index }) => index,
  );
  const choices = [...parts]
    .sort(([a], [b]) => a - b)
    .map(([index, mine]) => ({
      index,
      text: mine.map((one) => one.text ?? one.delta?.content ?? '').join(''),
      finish: mine.flatMap(({ finish_reason }) => finish_reason ?? []),
      logprobs: joined(mine.flatMap(({ logprobs }) => (logprobs ? [logprobs] : []))),
    }));
  const usage = chunks.findLast((one) => one.usage)?.usage;
  const error = response.ok ? chunks.find((one) => one.error)?.error : text;
  return { requestId: response.headers.get('x-request-id') ?? '', said: { choices, usage, whole, error } };
}

/**
 * Token texts are keys of `top_logprobs`, and V8 (13.6, of Node 24) takes one that begins with an escape for the key `\\` where an object of that shape was
 * parsed before. So none is escaped when it parses.
 */
function unescaped(event: string): string {
  return event.replaceAll(/\\./g, (two) => `%${two.charCodeAt(1)}`);
}

/** Lists under each name, one after another. */
function joined(all: readonly Record<string, unknown>[]): Record<string, unknown[]> {
  const lists: Record<string, unknown[]> = {};
  for (const one of all)
    for (const [name, list] of Object.entries(one))
      if (Array.isArray(list)) lists[name] = [...(lists[name] ?? []), ...list];
  return lists;
}

function toldOf({ requestId, said: { usage } }: Heard): Told {
  const { prompt_tokens: promptTokens = 0, completion_tokens: completionTokens = 0 } = usage ?? {};
  return { requestId, promptTokens, completionTokens, text: '', replayed: false };
}

/** Kills and robs pools at drawn shares of what clients will read. */
async function strike(
  { seed, kills, losses, say }: StreamsOptions,
  pools: readonly OpenPool[],
  loseFile: (poolId: string) => string,
  share: () => number,
  signal: AbortSignal,
): Promise<void> {
  const random = randomOf(seed + 1);
  const order = [...Array.from({ length: kills }, () => 'kill'), ...Array.from({ length: losses }, () => 'lose')]
    .map((how) => ({ how, drawn: random() }))
    .sort((a, b) => a.drawn - b.drawn);
  // Spread over the whole of it, and one pool after the other: one that is just coming back has nothing to lose.
  const strikes = order.map(({ how }, n) => ({ how, at: 0.02 + (0.88 * (n + random())) / order.length }));
  const first = Math.floor(random() * pools.length);
  for (const [n, { how, at }] of strikes.entries()) {
    while (share() < at && !signal.aborted) await sleep(2);
    const i = (first + n) % pools.length;
    const pool = pools[i];
    const poolId = POOL_IDS[i];
    invariant(pool && poolId, 'there are pools');
    while (!pool.serves() && !signal.aborted) await sleep(2);
    if (signal.aborted) return;
    if (how === 'kill') pool.kill();
    else writeFileSync(loseFile(poolId), '');
    say(
      `${how === 'kill' ? 'killed' : 'took the device of'} ${poolId} at ${(100 * share()).toFixed(0)} % of what was read`,
    );
  }
}
