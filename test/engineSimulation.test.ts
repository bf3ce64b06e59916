// A model-based fuzz of the whole engine core: random requests, cancellations, deadlines and a small arena, so that blocks run out all
// the time; steps planned ahead or not; blocks that come from a tier late, in part or not at all; every eviction policy; prefixes that become
// public and cease to be; rows that are not finite; keys destroyed; no drafts, by n-gram, or of one who knows and errs; sequences that another
// engine began. After each step the structures check themselves, and a reader of the index's changes can follow. In the end every sequence
// must have been told exactly what it is told alone with a cold cache, or a prefix of that when it was cut off.
import { setImmediate as nextTurn, setImmediate as yieldToEvents } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { createEvictionPolicy, EVICTION_POLICIES } from '../engine/eviction/policies.ts';
import { philox4x32, seedKey } from '../engine/noise.ts';
import { PublicPrefixes } from '../engine/publicPrefixes.ts';
import type { SequenceRequest } from '../engine/request.ts';
import type { SpeculationOptions } from '../engine/speculation/drafter.ts';
import { ngramSpeculation } from '../engine/speculation/ngramDrafter.ts';
import { BlockFeed } from '../pool/blockFeed.ts';
import { BlockMirror } from '../pool/blockMirror.ts';
import { cacheOf, EngineHarness, GREEDY, solo, type Told } from './support/engineHarness.ts';
import { OracleDrafter } from './support/oracleDrafter.ts';
import { UnreliableTiers } from './support/unreliableTiers.ts';

const RUNS = 60;
const FIRST_SEED = Number(process.env.HEARTH_TEST_SEED ?? 1);

/** Numbers of one seed, one after the other. */
class Dice {
  readonly #seed: string;
  #count = 0;
  constructor(seed: number) {
    this.#seed = String(seed);
  }
  below(limit: number): number {
    return philox4x32([this.#count++, 0, 0, 1], seedKey(this.#seed))[0] % limit;
  }
  chance(percent: number): boolean {
    return this.below(100) < percent;
  }
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }
}

/** Prompts come from three long texts. */
function textOf(text: number, length: number): number[] {
  return Array.from({ length }, (_, i) => (i * 7 + text * 13) % 64);
}

/** What an operator may do at any time. */
function operate(dice: Dice, publicPrefixes: PublicPrefixes, tiers: UnreliableTiers | undefined): void {
  const id = `prefix ${dice.below(4)}`;
  if (dice.chance(60)) publicPrefixes.declare(id, Int32Array.from(textOf(dice.below(3), 1 + dice.below(85))));
  else publicPrefixes.withdraw(id);
  if (dice.chance(10)) publicPrefixes.sealKey = new Uint8Array(32).fill(dice.below(3));
  if (dice.chance(20)) tiers?.destroyNamespace(dice.pick(['scope-a', 'scope-b', 'public']));
}

function randomRequest(dice: Dice, id: string, nowMs: number): SequenceRequest {
  // Cut anywhere and sometimes with an own end, so that prefixes are shared and diverge.
  const text = dice.below(3);
  const shared = textOf(text, dice.below(dice.pick([20, 90])));
  const own = Array.from({ length: dice.below(6) }, () => dice.below(64));
  const promptIds = Int32Array.from(shared.length + own.length > 0 ? [...shared, ...own] : [1]);
  const tenant = dice.pick(['a', 'b', 'c']);
  const scores = dice.chance(12);
  return {
    id,
    choice: dice.below(3),
    tenant,
    weight: dice.pick([1, 2, 0.5]),
    priority: dice.below(3),
    account: { name: tenant, weight: 1, floorShare: 0 },
    cache: dice.chance(15) ? null : cacheOf(`scope-${tenant}`),
    promptIds,
    maxTokens: scores && dice.chance(50) ? 0 : dice.below(dice.pick([8, 80])),
    sampling: dice.chance(40)
      ? GREEDY
      : {
          temperature: dice.pick([0.5, 1, 2]),
          topP: dice.pick([1, 0.9, 0.3]),
          topK: dice.pick([0, 1, 5]),
          minP: dice.pick([0, 0.1]),
          frequencyPenalty: dice.pick([0, 0.5]),
          presencePenalty: dice.pick([0, -0.5]),
          repetitionPenalty: dice.pick([1, 1.3]),
          logitBias: dice.chance(20) ? [[dice.below(64), 3]] : [],
          seed: String(dice.below(1000)),
        },
    eosIds: dice.chance(50) ? [dice.below(64)] : [],
    logprobs: dice.chance(30) ? dice.below(4) : null,
    promptLogprobs: scores ? dice.below(3) : null,
    deadlineMs: dice.chance(8) ? nowMs + dice.below(60) : Number.POSITIVE_INFINITY,
  };
}

/** The request as it goes on when the engine that began it has died anywhere, and what is still to be told of it. */
function takenUp(dice: Dice, request: SequenceRequest, alone: Told): { request: SequenceRequest; rest: Told } {
  const scoring = request.promptLogprobs !== null && dice.chance(60);
  const scored = dice.below(request.promptIds.length + 1);
  if (scoring)
    return { request: { ...request, scored }, rest: { ...alone, promptLogprobs: alone.promptLogprobs.slice(scored) } };
  const from = dice.below(Math.max(1, alone.ids.length));
  const rest = { ...alone, from, ids: alone.ids.slice(from), logprobs: alone.logprobs.slice(from), promptLogprobs: [] };
  return {
    request: { ...request, promptLogprobs: null, outputIds: Int32Array.from(alone.ids.slice(0, from)) },
    rest,
  };
}

/** Drafts of as many kinds; `texts`: how the sequences go on, as far as they are known. */
function speculationOf(dice: Dice, texts: readonly number[][]): SpeculationOptions | undefined {
  const errPercent = dice.pick([0, 10, 40]);
  return dice.pick([
    undefined,
    ngramSpeculation(8),
    {
      open: () =>
        new OracleDrafter(
          texts,
          () => dice.chance(errPercent),
          () => dice.chance(20),
        ),
      maxDraftTokens: dice.pick([1, 3, 20]),
    },
  ]);
}

async function simulate(seed: number) {
  const dice = new Dice(seed);
  const stepsInFlight = dice.pick([1, 2]);
  const badRowPercent = dice.pick([0, 0, 1, 4]);
  const follows = dice.pick([0, 60, 95]);
  const texts: number[][] = [];
  const speculation = speculationOf(dice, texts);
  const publicPrefixes = new PublicPrefixes();
  const feed = new BlockFeed();
  let tiers: UnreliableTiers | undefined;
  const harness = new EngineHarness(
    {
      capacityBlocks: dice.pick([9, 12, 16, 30]),
      maxStepTokens: dice.pick([4, 9, 33, 64]),
      maxStepLogits: dice.pick([2, 5, 32]),
      stepsInFlight,
      follows,
      alter: (row) => {
        if (badRowPercent > 0 && dice.chance(badRowPercent)) row.fill(Number.NaN);
      },
      // Results come late, and that of a later step sometimes before that of an earlier one.
      during: async () => {
        for (let turns = dice.chance(15) ? dice.below(3) : 0; turns > 0; turns--) await nextTurn();
      },
    },
    { maxRunning: dice.pick([2, 4, 16]) },
    (runner) => {
      if (dice.chance(50))
        tiers = new UnreliableTiers(runner.transfer, dice.pick([4_000, 40_000, 400_000]), {
          delay: () => dice.below(dice.pick([1, 4, 12])),
          gives: (blocks) => (dice.chance(70) ? blocks : dice.below(blocks + 1)),
          maxLoadBlocks: dice.pick([1, 2, 64]),
        });
      const eviction = createEvictionPolicy(dice.pick(Object.keys(EVICTION_POLICIES)), runner.capacityBlocks);
      return { publicPrefixes, eviction, listener: feed, ...(tiers && { tiers }), ...(speculation && { speculation }) };
    },
  );
  const { engine } = harness;
  const mirror = new BlockMirror(harness.runner.capacityBlocks);
  const check = () => {
    engine.checkInvariants();
    const changes = feed.take();
    if (changes) mirror.apply(changes);
  };
  const asked = new Map<string, SequenceRequest>();
  const expected = new Map<string, Told>();
  const cancelled = new Set<string>();
  let resumed = 0;
  for (let round = 0; round < 160; round++) {
    const living = [...asked.keys()].filter((id) => !harness.told.get(id)?.end && !cancelled.has(id));
    if (dice.chance(6)) operate(dice, publicPrefixes, tiers);
    if (dice.chance(30)) {
      const whole = randomRequest(dice, `r${round}`, harness.nowMs);
      const alone = await solo(whole, { follows });
      const { request, rest } = dice.chance(30) ? takenUp(dice, whole, alone) : { request: whole, rest: alone };
      if (!engine.submit(request)) {
        if (request !== whole) resumed += 1;
        asked.set(request.id, request);
        expected.set(request.id, rest);
        texts.push([...request.promptIds, ...alone.ids]);
      }
    } else if (dice.chance(4) && living.length > 0) {
      const id = dice.pick(living);
      expect(engine.cancel(id)).toBe(true);
      cancelled.add(id);
    } else {
      await engine.step();
      harness.nowMs += 1;
      // Copies out of the arena are answered between steps.
      if (tiers) await yieldToEvents();
    }
    check();
  }
  for (let i = 0; await engine.step(); i++) {
    harness.nowMs += 1;
    check();
    if (i > 20_000) throw new Error('the simulation does not come to an end');
  }
  if (harness.fatal) throw harness.fatal;
  const status = engine.status();
  expect(status.running + status.waiting).toBe(0);
  expect(status.blocksFree + status.blocksCached).toBe(status.blocksTotal);
  expect(mirror.size).toBeLessThanOrEqual(status.blocksCached);
  let failed = 0;
  const incidental = { cachedTokens: 0, drafts: null };
  for (const id of asked.keys()) {
    const told = harness.of(id);
    const alone = expected.get(id)!;
    if (told.end === 'cancelled' || told.end === 'deadline' || told.end === 'failed') {
      if (told.end === 'cancelled') expect(cancelled.has(id)).toBe(true);
      if (told.end === 'failed') expect(badRowPercent).toBeGreaterThan(0);
      failed += told.end === 'failed' ? 1 : 0;
      expect(told.ids).toEqual(alone.ids.slice(0, told.ids.length));
      expect(told.logprobs).toEqual(alone.logprobs.slice(0, told.logprobs.length));
      expect(told.promptLogprobs).toEqual(alone.promptLogprobs.slice(0, told.promptLogprobs.length));
    } else expect({ id, ...told, ...incidental }).toEqual({ id, ...alone, ...incidental });
  }
  return {
    ...status,
    sequences: asked.size,
    resumed,
    cut: cancelled.size,
    failed,
    loadedBlocks: tiers?.loadedBlocks ?? 0,
    abortedLoads: tiers?.aborted ?? 0,
    ahead: stepsInFlight > 1 ? status.steps : 0,
    acceptedAhead: stepsInFlight > 1 ? status.acceptedTokens : 0,
  };
}

describe('engine simulation', () => {
  it(`tells every sequence what it is told alone, in ${RUNS} random schedules`, async () => {
    const sum = {
      ...{ sequences: 0, resumed: 0, preemptions: 0, evictions: 0, cachedTokens: 0, cut: 0, failed: 0 },
      ...{ loadedBlocks: 0, abortedLoads: 0, ahead: 0, draftedTokens: 0, acceptedTokens: 0, acceptedAhead: 0 },
    };
    for (let seed = FIRST_SEED; seed < FIRST_SEED + RUNS; seed++) {
      try {
        const seen = await simulate(seed);
        for (const key of Object.keys(sum) as (keyof typeof sum)[]) sum[key] += seen[key];
      } catch (error) {
        throw new Error(`HEARTH_TEST_SEED=${seed} fails`, { cause: error });
      }
    }
    // The schedules must have met what they are for.
    expect(sum.sequences).toBeGreaterThan(RUNS * 20);
    expect(sum.resumed).toBeGreaterThan(RUNS * 5);
    expect(sum.preemptions).toBeGreaterThan(RUNS);
    expect(sum.evictions).toBeGreaterThan(RUNS * 10);
    expect(sum.cachedTokens).toBeGreaterThan(RUNS * 100);
    expect(sum.cut).toBeGreaterThan(RUNS);
    expect(sum.failed).toBeGreaterThan(RUNS / 2);
    expect(sum.loadedBlocks).toBeGreaterThan(RUNS);
    expect(sum.abortedLoads).toBeGreaterThan(0);
    expect(sum.ahead).toBeGreaterThan(RUNS * 10);
    expect(sum.acceptedTokens).toBeGreaterThan(RUNS * 10);
    expect(sum.draftedTokens - sum.acceptedTokens).toBeGreaterThan(RUNS * 10);
    expect(sum.acceptedAhead).toBeGreaterThan(RUNS);
  });
});
