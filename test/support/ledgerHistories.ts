// Random histories of a ledger against a naive model that keeps a list of everything that happened and adds it up at every question:
// requests of two keys, holds that shrink, go on at other pools, settle, expire and are settled late, clocks that run on, jump over windows' borders and are
// set back, limits of every metric, window and scope that are taken away and put again, and processes that end.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { atLeast, type Released, withinHold } from '../../gateway/ledger/bill.ts';
import { decide, type HoldBounds, type Meter } from '../../gateway/ledger/decide.ts';
import { type LimitRule, unitsOf } from '../../gateway/ledger/limits.ts';
import type { LedgerStore } from '../../gateway/ledger/port.ts';
import { windowAt } from '../../gateway/ledger/windows.ts';
import type { Price } from '../../gateway/prices/price.ts';
import type { OpenLedger } from './ledgerConformance.ts';

const START = Date.UTC(2026, 6, 15, 12);
const TENANT = 'proj_000000000000000000000002';
const KEYS = ['key_1', 'key_2'].map((id, i) => ({ id, hash: { pepperVersion: 1, hash: `a${i}`.repeat(32) } }));
const LIFE_MS = 3_600_000;

const POOLS = ['pool-a', 'pool-b'] as const;

type OwnedRule = LimitRule & { keyId: string | null };

const rule: fc.Arbitrary<OwnedRule> = fc
  .record({
    // Half of them where state is subtle: the ring of a minute, and what runs now.
    kind: fc.constantFrom(
      ...(['requests', 'tokens', 'spend'] as const).flatMap((metric) =>
        (['minute', 'minute', 'day', 'month', 'lifetime'] as const).map((window) => ({ metric, window })),
      ),
      ...Array.from({ length: 4 }, () => ({ metric: 'concurrent' as const, window: 'none' as const })),
    ),
    size: fc.integer({ min: 0, max: 100 }),
    models: fc.constantFrom(null, ['tiny'], ['large', 'tiny']),
    timeZone: fc.constantFrom('UTC', 'Europe/Berlin', 'Asia/Kathmandu'),
    keyId: fc.constantFrom(null, 'key_1', 'key_2'),
  })
  .map(({ kind, size, ...rest }) => {
    const limit = Math.ceil(size * { requests: 0.12, tokens: 4, spend: 40, concurrent: 0.05 }[kind.metric]);
    return { ...kind, ...rest, limit };
  });
const rules = fc.uniqueArray(rule, {
  minLength: 1,
  maxLength: 6,
  size: 'max',
  selector: ({ limit: _, ...counted }) => JSON.stringify(counted),
});

const small = fc.integer({ min: 0, max: 60 });
const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('admit' as const),
      key: fc.constantFrom(0, 1),
      model: fc.constantFrom('tiny', 'large'),
      price: fc.constantFrom<Price | null>(
        null,
        { version: 'a', inputNanoUsd: 3, cachedInputNanoUsd: 1, outputNanoUsd: 7 },
        { version: 'b', inputNanoUsd: 5, cachedInputNanoUsd: 0, outputNanoUsd: 11 },
      ),
      prompt: small,
      output: small,
      choices: fc.integer({ min: 1, max: 3 }),
      exact: fc.boolean(),
      flexible: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('shrink' as const), which: fc.nat(20), input: small, output: fc.nat(180) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('settle' as const),
      which: fc.nat(20),
      input: small,
      cached: small,
      output: fc.integer({ min: 0, max: 300 }),
      /** Who says it; null: the relay, of the pool that has it. */
      pool: fc.constantFrom(null, null, ...POOLS),
      legsAgo: fc.constantFrom(0, 0, 1),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('reroute' as const),
      which: fc.nat(20),
      pool: fc.constantFrom(...POOLS),
      input: small,
      cached: small,
      positions: fc.constantFrom([1], [3, 0], [10, 20, 30]),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('wait' as const),
      seconds: fc.oneof(fc.nat(70), fc.nat(70), fc.nat(5000), fc.nat(1_000_000)),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('back' as const),
      seconds: fc.oneof(fc.nat(70), fc.integer({ min: 280, max: 420 }), fc.nat(5000), fc.nat(200_000)),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('keep' as const), of: fc.nat(63) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constantFrom('expire' as const, 'reopen' as const, 'remake' as const, 'tend' as const),
    }),
  },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

interface NaiveRequest extends HoldBounds {
  id: string;
  keyId: string;
  model: string;
  price: Price | null;
  reservedAtMs: number;
  second: number;
  runs: boolean;
  pool: string;
  leg: number;
  released: Released | null;
  /** null: not settled. */
  used: { tokens: number; spend: number } | null;
}

/** Lists of everything that happened; every question adds them up. */
class NaiveLedger {
  readonly requests: NaiveRequest[] = [];
  rules: readonly OwnedRule[];
  latestSecond = 0;

  constructor(all: readonly OwnedRule[]) {
    this.rules = all;
  }

  /** The second that counts now. */
  second(nowMs: number): number {
    const second = Math.floor(nowMs / 1000);
    return second < this.latestSecond && second >= this.latestSecond - 300 ? this.latestSecond : second;
  }

  /** Somebody asks: what counted by a clock that was wrong counts now, and what had left stays away. */
  tick(nowMs: number): void {
    const second = this.second(nowMs);
    if (second < this.latestSecond)
      for (const request of this.requests)
        if (request.second >= second - 60) request.second = request.second >= this.latestSecond - 60 ? second : 0;
    this.latestSecond = second;
  }

  meters(nowMs: number, by?: { model: string; keyId: string; price: Price | null }): (Meter & OwnedRule)[] {
    return this.rules
      .filter((one) => !by || ((one.models?.includes(by.model) ?? true) && (one.keyId ?? by.keyId) === by.keyId))
      .map((one) => {
        const counts = this.#countedBy(one, nowMs);
        const mine = this.requests.filter(counts);
        const settled = mine.reduce((sum, request) => sum + usedOf(one, request), 0);
        const held = mine.reduce((sum, request) => sum + heldOf(one, request), 0);
        return { ...one, settled, held, units: unitsOf(one.metric, by?.price ?? null) };
      });
  }

  #countedBy(one: OwnedRule, nowMs: number): (request: NaiveRequest) => boolean {
    const { startMs, endMs } =
      one.window === 'day' || one.window === 'month'
        ? windowAt(one.window, one.timeZone, nowMs)
        : { startMs: -Infinity, endMs: null };
    return (request) =>
      (one.models?.includes(request.model) ?? true) &&
      (one.keyId ?? request.keyId) === request.keyId &&
      (one.window !== 'minute' || request.second >= this.latestSecond - 60) &&
      request.reservedAtMs >= startMs &&
      request.reservedAtMs < (endMs ?? Infinity);
  }
}

function usedOf({ metric }: OwnedRule, { used }: NaiveRequest): number {
  if (!used) return 0;
  return { requests: 1, tokens: used.tokens, spend: used.spend, concurrent: 0 }[metric];
}

function heldOf({ metric }: OwnedRule, { used, runs, inputTokens, outputTokens, price }: NaiveRequest): number {
  if (used) return 0;
  const spend = price ? inputTokens * price.inputNanoUsd + outputTokens * price.outputNanoUsd : 0;
  return { requests: 1, tokens: inputTokens + outputTokens, spend, concurrent: runs ? 1 : 0 }[metric];
}

/** `runs`: how many of them. */
export function ledgerHistories(open: () => Promise<OpenLedger>, runs: number): void {
  test('random histories: never over a limit, nothing lost, nothing twice', async () => {
    await fc.assert(
      fc.asyncProperty(rules, fc.array(step, { maxLength: 80, size: 'max' }), async (all, steps) => {
        const opened = await open();
        try {
          await opened.ledger.openTenant(TENANT);
          for (const { id, hash } of KEYS) {
            const times = { createdAtMs: START, lastUsedAtMs: null, expiresAtMs: null };
            const names = { id, tenant: TENANT, serviceAccountId: null, name: id, redacted: '', models: null };
            await opened.ledger.addKey({ ...names, ...times }, hash);
          }
          await put(opened.ledger, all, START);
          await follow(opened, new NaiveLedger(all), steps);
        } finally {
          await opened.close();
        }
      }),
      // Shrinking would outlast the time limit: the seed and the path that it prints tell enough to do it by hand.
      { numRuns: runs, endOnFailure: true },
    );
  }, 120_000);
}

function nameOf({ keyId, metric, window, models, timeZone }: OwnedRule): string {
  return JSON.stringify([keyId, metric, window, models, timeZone]);
}

async function put(ledger: LedgerStore, all: readonly OwnedRule[], nowMs: number): Promise<void> {
  const sets = [null, 'key_1', 'key_2'].map((keyId) => ({
    keyId,
    set: 'test',
    rules: all.filter((one) => one.keyId === keyId),
  }));
  await ledger.putLimits(TENANT, sets, nowMs);
}

async function follow(opened: OpenLedger, naive: NaiveLedger, steps: readonly Step[]): Promise<void> {
  let { ledger } = opened;
  let nowMs = START;
  naive.tick(nowMs); // the limits were put then
  const all = naive.rules;
  /** Limits that were away for a while: more may have been used meanwhile, also of a window that a clock goes back into. */
  const returned = new Set<string>();
  for (const [index, one] of steps.entries()) {
    if (one.do === 'wait') nowMs += one.seconds * 1000 + 137;
    if (one.do === 'back') nowMs -= one.seconds * 1000;
    if (one.do === 'reopen') ledger = await opened.reopen();
    if (one.do === 'tend') await ledger.tend();
    if (one.do === 'remake') {
      naive.tick(nowMs);
      await put(ledger, [], nowMs);
      await put(ledger, naive.rules, nowMs);
    }
    if (one.do === 'keep') {
      naive.tick(nowMs);
      const before = naive.rules;
      naive.rules = all.filter((_, i) => ((one.of >> i) & 1) === 1);
      await put(ledger, naive.rules, nowMs);
      for (const rule of naive.rules) if (!before.includes(rule)) returned.add(nameOf(rule));
    }
    if (one.do === 'expire') {
      await ledger.expire(nowMs);
      for (const request of naive.requests) if (request.reservedAtMs + LIFE_MS <= nowMs) request.runs = false;
    }
    if (one.do === 'admit') await admit(ledger, naive, one, `r${String(index).padStart(3, '0')}`, nowMs);
    const request = 'which' in one ? naive.requests[one.which % Math.max(1, naive.requests.length)] : undefined;
    if (request && one.do === 'shrink') {
      const bounds = { inputTokens: one.input, outputTokens: one.output };
      await ledger.shrink({ tenant: TENANT, requestId: request.id, ...bounds });
      request.inputTokens = Math.min(request.inputTokens, one.input);
      request.outputTokens = Math.min(request.outputTokens, one.output);
    }
    if (request && one.do === 'settle') {
      const cachedInputTokens = Math.min(one.cached, one.input);
      const bill = {
        inputTokens: one.input,
        cachedInputTokens,
        outputTokens: one.output,
        outcome: 'completed' as const,
      };
      const word = one.pool === null ? null : { pool: one.pool, leg: request.leg - one.legsAgo };
      const command = { tenant: TENANT, requestId: request.id, bill, nowMs, ...(word && { word }) };
      const counts = !word || (word.pool === request.pool && word.leg === request.leg);
      const open = counts ? 'booked' : 'elsewhere';
      expect(await ledger.settle(command)).toBe(request.used === null ? open : 'already');
      if (counts) request.used ??= useOf(withinHold(atLeast(bill, request.released), request), request.price);
    }
    if (request && one.do === 'reroute') {
      const cachedInputTokens = Math.min(one.cached, one.input);
      const released = { inputTokens: one.input, cachedInputTokens, positions: one.positions };
      const command = { tenant: TENANT, requestId: request.id, pool: one.pool, released, nowMs };
      expect(await ledger.reroute(command)).toBe(request.used === null);
      if (request.used === null) Object.assign(request, { pool: one.pool, released, leg: request.leg + 1 });
    }
    const limits = await ledger.limits(TENANT, nowMs);
    naive.tick(nowMs);
    const counted = (all: readonly (OwnedRule & { settled: number; held: number })[]) =>
      all.map(({ keyId, metric, window, limit, settled, held }) => ({ keyId, metric, window, limit, settled, held }));
    const byOwner = (a: OwnedRule, b: OwnedRule) => (a.keyId ?? '').localeCompare(b.keyId ?? '');
    expect(counted(limits)).toEqual(counted(naive.meters(nowMs).sort(byOwner)));
    for (const { settled, held, ...rule } of limits)
      if (!returned.has(nameOf(rule))) expect(settled + held).toBeLessThanOrEqual(rule.limit);
  }
  await compareRows(ledger, naive);
}

async function admit(
  ledger: LedgerStore,
  naive: NaiveLedger,
  one: Extract<Step, { do: 'admit' }>,
  requestId: string,
  nowMs: number,
): Promise<void> {
  const { model, price } = one;
  const demand = {
    ...{ promptTokens: one.prompt, outputTokens: one.output, choices: one.choices },
    ...{ promptExact: one.exact, outputFlexible: one.flexible },
  };
  const key = KEYS[one.key];
  if (!key) throw new Error('two keys');
  naive.tick(nowMs);
  const expected = decide(naive.meters(nowMs, { model, keyId: key.id, price }), demand);
  const actual = await ledger.admit({
    ...{ tenant: TENANT, hashes: [key.hash], requestId, model, pool: 'pool-a', demand, price, nowMs },
    ...{ deadlineMs: nowMs + 1000, expiresMs: nowMs + LIFE_MS },
  });
  expect(actual.kind).toBe(expected.kind);
  if (expected.kind === 'rate' || expected.kind === 'held')
    expect(actual).toMatchObject({ retryAfterMs: expect.any(Number) });
  if (expected.kind !== 'granted') return;
  expect(actual).toMatchObject({ hold: expected.hold, outputTokens: expected.outputTokens });
  const at = { pool: 'pool-a', leg: 0, released: null };
  const booked = { reservedAtMs: nowMs, second: naive.latestSecond, runs: true, used: null, ...at };
  naive.requests.push({ id: requestId, keyId: key.id, model, price, ...booked, ...expected.hold });
}

function useOf({ inputTokens, cachedInputTokens, outputTokens }: ReturnType<typeof withinHold>, price: Price | null) {
  const { inputNanoUsd = 0, cachedInputNanoUsd = 0, outputNanoUsd = 0 } = price ?? {};
  const input = (inputTokens - cachedInputTokens) * inputNanoUsd + cachedInputTokens * cachedInputNanoUsd;
  return { tokens: inputTokens + outputTokens, spend: input + outputTokens * outputNanoUsd };
}

/** At most one row per request, with what it used; what is not settled is still held. */
async function compareRows(ledger: LedgerStore, naive: NaiveLedger): Promise<void> {
  const entries = (await ledger.outbox(1000)).map((entry) => [
    entry.requestId,
    { tokens: entry.inputTokens + entry.outputTokens, spend: entry.costNanoUsd },
  ]);
  const settled = naive.requests.filter(({ used }) => used !== null);
  expect(Object.fromEntries(entries)).toEqual(Object.fromEntries(settled.map(({ id, used }) => [id, used])));
  expect(entries).toHaveLength(settled.length);
  expect((await ledger.holds({ limit: 1000 })).map(({ requestId }) => requestId)).toEqual(
    naive.requests.filter(({ used }) => used === null).map(({ id }) => id),
  );
}
