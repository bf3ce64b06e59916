// The noisy neighbour on the real engine and adapter: tenants with conversations that go on, each with its own think time, beside one that
// floods with prompts that never repeat. Steps are the clock. Nobody's hit rate falls below what he has alone on his fair share of the
// arena, and the wait for a first token hardly grows. Service alone, at greater length: noisyNeighbour.test.ts.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Engine } from '../engine/engine.ts';
import { createEvictionPolicy } from '../engine/eviction/policies.ts';
import { createLlamaRunner } from '../engine/llama/runner.ts';
import { openModelFile } from '../engine/model/modelFile.ts';
import type { ModelFile } from '../engine/model/types.ts';
import { cacheOf, request } from './support/engineHarness.ts';
import { testDevice } from './support/gpu.ts';
import { randomOf } from './support/random.ts';
import { writeTinyModel } from './support/tinyModel.ts';

const VOCAB = 300;
const SHAPE = { layers: 2, hidden: 64, feedForward: 96, heads: 4, kvHeads: 2, headDim: 32, vocabSize: VOCAB };
const SEED = Number(process.env.HEARTH_TEST_SEED ?? 3);
const NORMALS = ['anna', 'ben', 'cleo', 'dan'];
/** Conversations of each at a time, and the positions after which one begins anew. */
const CONVERSATIONS = 3;
const LONGEST = 200;
const STEPS = 700;
/** Room for all conversations beside the sequences that run: up to 16 of about 10 blocks. Blocks in use never leave, whoever's they are. */
const KV_BLOCKS = 480;
const FLOOD_BACKLOG = 24;

let folder: string;
let file: ModelFile;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hearth-noisy-'));
  const path = join(folder, 'tiny.gguf');
  await writeTinyModel(path, { ...SHAPE, contextLength: 320, type: 'Q4_1', tied: true, seed: 5 });
  ({ file } = await openModelFile(path));
});
afterAll(async () => {
  await file.close();
  await rm(folder, { recursive: true });
});

interface Turn {
  tenant: string;
  /** All that was said so far. */
  tokens: number[];
  askAt: number;
  random: () => number;
}

interface Outcome {
  asked: Map<string, number>;
  hit: Map<string, number>;
  /** Steps from arrival to first token, of the normal tenants, ascending. */
  waits: number[];
  floodPrompts: number;
}

/** Each conversation has numbers of its own, so that its turns are alike whoever else is there. */
async function live(
  policy: string,
  tenants: readonly string[],
  kvBlocks: number,
  floodBacklog: number,
): Promise<Outcome> {
  const runner = await createLlamaRunner({
    ...{ gpu: await testDevice(), file, activations: 'int8', kvBlocks, maxStepTokens: 128 },
  });
  const outcome: Outcome = { asked: new Map(), hit: new Map(), waits: [], floodPrompts: 0 };
  const open = new Map<string, { turn: Turn | null; at: number; waiting: boolean }>();
  let step = 0;
  const engine = new Engine({
    ...{ runner, clock: () => step, limits: { maxRunning: 16 }, eviction: createEvictionPolicy(policy, kvBlocks) },
    onOutputs: (outputs) => {
      for (const { id, ids, cachedTokens, end } of outputs) {
        const state = open.get(id)!;
        const { turn } = state;
        if (end) open.delete(id);
        if (!turn) continue;
        if (cachedTokens !== undefined)
          outcome.hit.set(turn.tenant, (outcome.hit.get(turn.tenant) ?? 0) + cachedTokens);
        if (ids.length > 0 && state.waiting) {
          state.waiting = false;
          outcome.waits.push(step - state.at + 1);
        }
        turn.tokens.push(...ids);
        if (!end) continue;
        turn.askAt = step + 8 + Math.floor(turn.random() * 40);
        if (turn.tokens.length > LONGEST) turn.tokens = [];
      }
    },
    onFatal: (error) => {
      throw error;
    },
  });
  const say = (random: () => number, count: number) =>
    Array.from({ length: count }, () => Math.floor(random() * VOCAB));
  const turns = tenants.flatMap((tenant) =>
    Array.from({ length: CONVERSATIONS }, (_, i): Turn => {
      const random = randomOf(SEED + 1_000 * NORMALS.indexOf(tenant) + i);
      return { tenant, tokens: [], askAt: Math.floor(random() * 40), random };
    }),
  );
  const floodRandom = randomOf(SEED + 99_999);
  let serial = 0;
  const ask = (tenant: string, tokens: number[], maxTokens: number, turn: Turn | null): void => {
    const id = `${tenant}-${serial++}`;
    open.set(id, { turn, at: step, waiting: true });
    expect(engine.submit(request(id, tokens, { tenant, cache: cacheOf(tenant), maxTokens }))).toBeNull();
  };
  for (; step < STEPS; step++) {
    for (const turn of turns) {
      if (turn.askAt !== step) continue;
      turn.tokens.push(...say(turn.random, 16 + Math.floor(turn.random() * 24)));
      outcome.asked.set(turn.tenant, (outcome.asked.get(turn.tenant) ?? 0) + turn.tokens.length);
      ask(turn.tenant, [...turn.tokens], 6, turn);
    }
    for (let own = [...open.values()].filter(({ turn }) => !turn).length; own < floodBacklog; own++) {
      ask('flood', say(floodRandom, 40 + Math.floor(floodRandom() * 160)), 8, null);
      outcome.floodPrompts += 1;
    }
    await engine.step();
  }
  engine.checkInvariants();
  outcome.waits.sort((a, b) => a - b);
  return outcome;
}

const rate = ({ hit, asked }: Outcome, tenant: string): number =>
  (100 * (hit.get(tenant) ?? 0)) / (asked.get(tenant) ?? 1);

it('a flood takes no hits from anybody and hardly any time', { timeout: 240_000 }, async () => {
  const share = Math.floor(KV_BLOCKS / (NORMALS.length + 1));
  const quiet = await live('multi-tenant', NORMALS, KV_BLOCKS, 0);
  const noisy = await live('multi-tenant', NORMALS, KV_BLOCKS, FLOOD_BACKLOG);
  const plain = await live('lru', NORMALS, KV_BLOCKS, FLOOD_BACKLOG);
  const rows = [];
  for (const tenant of NORMALS) {
    const alone = await live('multi-tenant', [tenant], share, 0);
    rows.push({ tenant, alone: rate(alone, tenant), beside: rate(noisy, tenant), lru: rate(plain, tenant) });
  }
  const worst = Math.max(...rows.map(({ alone, beside }) => alone - beside));
  const worstLru = Math.max(...rows.map(({ alone, lru }) => alone - lru));
  const p99 = ({ waits }: Outcome) => waits[Math.floor(0.99 * (waits.length - 1))]!;
  const figures = JSON.stringify({
    seed: SEED,
    rows,
    requests: [quiet.waits.length, noisy.waits.length],
    p99: [p99(quiet), p99(noisy)],
    floodPrompts: noisy.floodPrompts,
  });
  expect(quiet.waits.length, figures).toBeGreaterThan(200);
  expect(worst, figures).toBeLessThanOrEqual(0.5);
  expect(worstLru, `plain LRU would lose hits here: ${figures}`).toBeGreaterThan(5);
  expect(p99(noisy) / p99(quiet), figures).toBeLessThanOrEqual(1.2);
  console.log(figures);
});
