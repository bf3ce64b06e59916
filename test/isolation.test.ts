// What a tenant can learn of what another has cached: nothing. The victim has cached one of two prompts; the attacker asks for the first
// of them and looks at all that it can see: steps to the first token, cached tokens in the usage, and the order in which its
// requests are served beside strangers'. Load is equal whichever it was. A classifier on what was seen must do no better than a coin; the
// same classifier, given a scope that is shared, must see everything, or the test could not fail.
import { describe, expect, it } from 'vitest';
import { PublicPrefixes } from '../engine/publicPrefixes.ts';
import type { RequestCache } from '../engine/request.ts';
import { cacheOf, EngineHarness, request } from './support/engineHarness.ts';
import { randomOf } from './support/random.ts';

const SEED = Number(process.env.HEARTH_TEST_SEED ?? 3);
const TRIALS = 2_400;

interface Seen {
  firstTokenSteps: number;
  cachedTokens: number;
  /** How many strangers' requests, submitted in the same moment, were served before the attacker's. */
  servedBefore: number;
}

/** One trial: whether the victim has cached the prompt that the attacker asks for, or another of the same length. */
async function trial(
  seed: number,
  secretIsCached: boolean,
  victim: RequestCache,
  attacker: RequestCache,
): Promise<Seen> {
  const random = randomOf(seed);
  const ids = (length: number) => Array.from({ length }, () => Math.floor(random() * 64));
  const length = 64 + Math.floor(random() * 64);
  const [asked, other] = [ids(length), ids(length)];
  const harness = new EngineHarness(
    // Too few blocks for everything: what is evicted must not tell either.
    { capacityBlocks: 48, maxStepTokens: 48, maxStepLogits: 16 },
    { maxRunning: 6 },
  );
  const ask = (id: string, prompt: number[], tenant: string, cache: RequestCache, maxTokens = 3) =>
    expect(harness.engine.submit(request(id, prompt, { tenant, cache, maxTokens }))).toBeNull();
  for (let i = 0; i < 3; i++) ask(`before${i}`, ids(30 + Math.floor(random() * 60)), `s${i}`, cacheOf(`s${i}`), 8);
  for (let i = Math.floor(random() * 4); i > 0; i--) await harness.engine.step();
  ask('victim', secretIsCached ? asked : other, 'victim', victim);
  for (let i = 4 + Math.floor(random() * 12); i > 0; i--) await harness.engine.step();
  for (let i = 0; i < 3; i++) ask(`beside${i}`, ids(30 + Math.floor(random() * 60)), `s${i}`, cacheOf(`s${i}`));
  ask('attacker', asked, 'attacker', attacker);
  let servedBefore = 0;
  for (let steps = 1; ; steps++) {
    const before = harness.batches.length;
    await harness.engine.step();
    for (const { id, ids: out, position, cachedTokens } of harness.batches.slice(before).flat()) {
      if (out.length === 0 || position > 0) continue;
      if (id === 'attacker') {
        const told = cachedTokens ?? harness.of('attacker').cachedTokens ?? 0;
        return { firstTokenSteps: steps, cachedTokens: told, servedBefore };
      }
      if (id.startsWith('beside')) servedBefore += 1;
    }
  }
}

/** Area under the ROC curve of telling `positive` from `negative` by one number: 0.5 is a coin. Ties count half. */
function area(positive: readonly number[], negative: readonly number[]): number {
  let above = 0;
  for (const p of positive) for (const n of negative) above += p > n ? 1 : p === n ? 0.5 : 0;
  return above / (positive.length * negative.length);
}

async function areas(
  victim: RequestCache,
  attacker: RequestCache,
  trials: number,
): Promise<Record<keyof Seen, number>> {
  const seen: [Seen[], Seen[]] = [[], []];
  // Independent trials: those with the secret cached and those without have nothing in common but their distribution.
  for (let i = 0; i < trials; i++) seen[i % 2]!.push(await trial(SEED * 10_000 + i, i % 2 === 1, victim, attacker));
  const by = (key: keyof Seen) =>
    area(
      seen[1].map((each) => -each[key]),
      seen[0].map((each) => -each[key]),
    );
  return { firstTokenSteps: by('firstTokenSteps'), cachedTokens: by('cachedTokens'), servedBefore: by('servedBefore') };
}

describe('isolation', () => {
  it('nobody can tell from time, usage or order of service what another tenant has cached', async () => {
    const found = await areas(cacheOf('of-victim'), cacheOf('of-attacker'), TRIALS);
    const figures = JSON.stringify({ seed: SEED, trials: TRIALS, ...found });
    for (const value of Object.values(found)) expect(Math.abs(value - 0.5), figures).toBeLessThanOrEqual(0.05);
    console.log(figures);
  });

  it('the same look at a shared scope tells it almost surely: the test can see', async () => {
    const found = await areas(cacheOf('shared'), cacheOf('shared'), 200);
    expect(found.firstTokenSteps, JSON.stringify(found)).toBeGreaterThan(0.8);
    // An area near 0: the more is cached, the surer the secret was there.
    expect(found.cachedTokens, JSON.stringify(found)).toBeLessThan(0.05);
  });

  it('trial by trial everything that the attacker sees is the same, whatever the victim cached', async () => {
    for (let seed = 1; seed <= 60; seed++) {
      const [with_, without] = await Promise.all(
        [true, false].map((cached) => trial(seed, cached, cacheOf('of-victim'), cacheOf('of-attacker'))),
      );
      expect(with_, `seed ${seed}`).toEqual(without);
    }
  });

  it('a public prefix is hit by all, also while the first is still computing it, and nothing after it is', async () => {
    const shared = Array.from({ length: 160 }, (_, i) => (i * 7) % 64);
    const publicPrefixes = new PublicPrefixes();
    expect(publicPrefixes.declare('system prompt', Int32Array.from(shared))).toBeNull();
    const harness = new EngineHarness({ maxStepTokens: 32 }, {}, () => ({ publicPrefixes }));
    const own = Array.from({ length: 40 }, (_, i) => (i * 11) % 64);
    const tenants = ['a', 'b', 'c'];
    const ask = (tenant: string, round: number) =>
      harness.engine.submit(request(`${tenant}${round}`, [...shared, ...own], { tenant, cache: cacheOf(tenant) }));
    for (const tenant of tenants) ask(tenant, 1);
    await harness.finish();
    expect(tenants.map((tenant) => harness.of(`${tenant}1`).cachedTokens)).toEqual([0, 160, 160]);
    for (const tenant of [...tenants, 'd']) ask(tenant, 2);
    await harness.finish();
    // Their own turn to hit what follows it; a stranger gets the public part alone.
    expect([...tenants, 'd'].map((tenant) => harness.of(`${tenant}2`).cachedTokens)).toEqual([199, 199, 199, 160]);
  });
});
