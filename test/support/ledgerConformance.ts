// What every implementation of the ledger port must do, as one suite: the life of holds, keys, quotas and the outbox by example, then
// random histories against a naive model that keeps lists and adds them up.
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { withinHold } from '../../gateway/ledger/bill.ts';
import { type Demand, decide } from '../../gateway/ledger/decide.ts';
import type {
  Admission,
  AdmitCommand,
  KeyRecord,
  LedgerStore,
  QuotaRule,
  QuotaState,
} from '../../gateway/ledger/port.ts';
import { windowAt } from '../../gateway/ledger/windows.ts';

export interface OpenLedger {
  ledger: LedgerStore;
  /** The same stored state, opened again by a new process. */
  reopen(): Promise<LedgerStore>;
  close(): Promise<void>;
}

const NOON = Date.UTC(2026, 6, 15, 12);
const TENANT = 'proj_000000000000000000000001';
const HASH = { pepperVersion: 1, hash: 'ab'.repeat(32) };
const KEY: KeyRecord = {
  id: 'key_1',
  tenant: TENANT,
  serviceAccountId: null,
  name: 'k',
  redacted: 'sk-…',
  createdAtMs: NOON,
  lastUsedAtMs: null,
  expiresAtMs: null,
};
const daily = (limitTokens: number, models: string[] | null = null): QuotaRule => ({
  window: 'day',
  limitTokens,
  models,
  timeZone: 'UTC',
});
const exactly = (promptTokens: number, outputTokens: number): Demand => ({
  ...{ promptTokens, outputTokens, promptExact: true, choices: 1, outputFlexible: false },
});
const admission = (requestId: string, demand: Demand, extra: Partial<AdmitCommand> = {}): AdmitCommand => ({
  ...{ tenant: TENANT, hashes: [HASH], requestId, model: 'tiny', pool: 'pool-a', demand },
  ...{ nowMs: NOON, deadlineMs: NOON + 1000, expiresMs: NOON + 2000, ...extra },
});
const bill = (inputTokens: number, outputTokens: number) => ({
  ...{ inputTokens, cachedInputTokens: 0, outputTokens, outcome: 'completed' as const },
});

/** `runs`: random histories; fewer where each command crosses processes. */
export function ledgerConformance(name: string, open: () => Promise<OpenLedger>, { runs = 150 } = {}): void {
  describe(name, () => {
    let opened: OpenLedger;
    let ledger: LedgerStore;
    beforeEach(async () => {
      opened = await open();
      ledger = opened.ledger;
      await ledger.openTenant(TENANT);
      await ledger.addKey(KEY, HASH);
    });
    afterEach(() => opened.close());

    const state = async (nowMs = NOON): Promise<[number, number][]> =>
      (await ledger.quotas(TENANT, nowMs)).map(({ settledTokens, heldTokens }) => [settledTokens, heldTokens]);

    test('a hold is shrunk, settled once, and booked exactly', async () => {
      await ledger.putQuotas(TENANT, [daily(100)], NOON);
      expect(await ledger.admit(admission('r1', exactly(30, 40)))).toMatchObject({ kind: 'granted', holdTokens: 70 });
      expect(await state()).toEqual([[0, 70]]);
      await ledger.shrink({ tenant: TENANT, requestId: 'r1', holdTokens: 50 });
      await ledger.shrink({ tenant: TENANT, requestId: 'r1', holdTokens: 60 });
      expect(await state()).toEqual([[0, 50]]);
      const settle = { tenant: TENANT, requestId: 'r1', bill: bill(10, 20), nowMs: NOON };
      expect(await ledger.settle(settle)).toBe('booked');
      expect(await ledger.settle({ ...settle, bill: bill(99, 99) })).toBe('already');
      expect(await ledger.settle({ ...settle, requestId: 'r2' })).toBe('unknown');
      expect(await state()).toEqual([[30, 0]]);
      expect(await ledger.outbox(10)).toMatchObject([
        { requestId: 'r1', inputTokens: 10, outputTokens: 20, outcome: 'completed' },
      ]);
    });

    test('a refused request holds nothing, in no window', async () => {
      await ledger.putQuotas(TENANT, [daily(1000), { ...daily(50), window: 'lifetime' }], NOON);
      expect(await ledger.admit(admission('r1', exactly(20, 20)))).toMatchObject({ kind: 'granted' });
      const refused = await ledger.admit(admission('r2', exactly(20, 20)));
      expect(refused).toMatchObject({ kind: 'held', quota: { window: 'lifetime' }, neededTokens: 40 });
      expect(await state()).toEqual([
        [0, 40],
        [0, 40],
      ]);
      expect(await ledger.admit(admission('r3', exactly(20, 31)))).toMatchObject({ kind: 'too_large' });
      await ledger.settle({ tenant: TENANT, requestId: 'r1', bill: bill(20, 20), nowMs: NOON });
      expect(await ledger.admit(admission('r4', exactly(20, 20)))).toMatchObject({ kind: 'exhausted' });
      expect(await ledger.holds({ limit: 10 })).toEqual([]);
    });

    test('a loose bound asks for a count where it takes more than a hundredth of the room', async () => {
      await ledger.putQuotas(TENANT, [daily(1000)], NOON);
      const loose = (promptTokens: number): Demand => ({ ...exactly(promptTokens, 1), promptExact: false });
      expect(await ledger.admit(admission('r1', loose(9)))).toMatchObject({ kind: 'granted' });
      expect(await ledger.admit(admission('r2', loose(10)))).toEqual({ kind: 'count_first' });
      expect(await ledger.holds({ limit: 10 })).toHaveLength(1);
    });

    test('a hold past its expiry is unresolved and still counts, until a late receipt settles it', async () => {
      await ledger.putQuotas(TENANT, [daily(100)], NOON);
      await ledger.admit(admission('r1', exactly(30, 40)));
      expect(await ledger.expire(NOON + 1999)).toBe(0);
      expect(await ledger.expire(NOON + 2000)).toBe(1);
      expect(await ledger.holdCounts()).toEqual({ held: 0, unresolved: 1 });
      expect(await state()).toEqual([[0, 70]]);
      expect(await ledger.admit(admission('r2', exactly(30, 40)))).toMatchObject({ kind: 'held' });
      expect(await ledger.settle({ tenant: TENANT, requestId: 'r1', bill: bill(30, 5), nowMs: NOON + 9e6 })).toBe(
        'booked',
      );
      expect(await state()).toEqual([[35, 0]]);
    });

    test('use is booked in the window of its reservation, also when it is settled in the next', async () => {
      await ledger.putQuotas(TENANT, [daily(100)], NOON);
      const midnight = Date.UTC(2026, 6, 16);
      await ledger.admit(admission('r1', exactly(10, 10), { nowMs: midnight - 1 }));
      await ledger.admit(admission('r2', exactly(30, 10), { nowMs: midnight }));
      await ledger.settle({ tenant: TENANT, requestId: 'r1', bill: bill(10, 10), nowMs: midnight + 5000 });
      expect(await state(midnight - 1)).toEqual([[20, 0]]);
      expect(await state(midnight)).toEqual([[0, 40]]);
    });

    test('quotas count what was used and held before they were made, and keep it when their limit changes', async () => {
      await ledger.admit(admission('r1', exactly(10, 10)));
      await ledger.admit(admission('r2', exactly(5, 5), { model: 'large' }));
      await ledger.settle({ tenant: TENANT, requestId: 'r1', bill: bill(10, 7), nowMs: NOON });
      await ledger.putQuotas(TENANT, [daily(100), daily(100, ['tiny']), { ...daily(100), window: 'lifetime' }], NOON);
      expect(await state()).toEqual([
        [17, 10],
        [17, 0],
        [17, 10],
      ]);
      await ledger.putQuotas(TENANT, [daily(5)], NOON);
      expect(await state()).toEqual([[17, 10]]);
      expect(await ledger.admit(admission('r3', exactly(1, 1)))).toMatchObject({ kind: 'exhausted' });
      await ledger.settle({ tenant: TENANT, requestId: 'r2', bill: bill(5, 0), nowMs: NOON });
      expect(await state()).toEqual([[22, 0]]);
    });

    test('a bill is never more than its hold', async () => {
      await ledger.putQuotas(TENANT, [daily(20)], NOON);
      await ledger.admit(admission('r1', exactly(10, 10)));
      await ledger.settle({ tenant: TENANT, requestId: 'r1', bill: bill(15, 500), nowMs: NOON });
      expect(await state()).toEqual([[20, 0]]);
    });

    test('keys: revoked, expired, archived and foreign ones are refused and hold nothing', async () => {
      const kind = async (extra: Partial<AdmitCommand> = {}) =>
        (await ledger.admit(admission(`r${Math.random()}`, exactly(1, 1), extra))).kind;
      expect(await kind()).toBe('granted');
      expect(await kind({ tenant: 'proj_other' })).toBe('unknown_key');
      expect(await kind({ hashes: [{ pepperVersion: 1, hash: 'cd'.repeat(32) }] })).toBe('unknown_key');
      const short = { pepperVersion: 1, hash: 'ef'.repeat(32) };
      await ledger.addKey({ ...KEY, id: 'key_2', expiresAtMs: NOON + 10 }, short);
      expect(await kind({ hashes: [short], nowMs: NOON + 9 })).toBe('granted');
      expect(await kind({ hashes: [short], nowMs: NOON + 10 })).toBe('expired_key');
      expect(await ledger.deleteKey(TENANT, 'key_2')).toBe(true);
      expect(await ledger.deleteKey(TENANT, 'key_2')).toBe(false);
      expect(await kind({ hashes: [short], nowMs: NOON })).toBe('unknown_key');
      await ledger.archiveTenant(TENANT);
      expect(await kind()).toBe('archived');
      expect((await ledger.keyStatus({ tenant: TENANT, hashes: [HASH], nowMs: NOON })).kind).toBe('archived');
      expect(await ledger.holdCounts()).toEqual({ held: 2, unresolved: 0 });
    });

    test('a key is hashed anew under the newest pepper at its next use', async () => {
      const newest = { pepperVersion: 2, hash: '12'.repeat(32) };
      const use = (hashes: AdmitCommand['hashes']) => ledger.keyStatus({ tenant: TENANT, hashes, nowMs: NOON });
      expect((await use([newest])).kind).toBe('unknown_key');
      expect((await use([newest, HASH])).kind).toBe('known');
      expect((await use([newest])).kind).toBe('known');
      expect((await use([HASH])).kind).toBe('unknown_key');
    });

    test('what is committed is there for the next process, and the outbox gives each entry until it is acknowledged', async () => {
      await ledger.putQuotas(TENANT, [daily(100)], NOON);
      for (const requestId of ['r1', 'r2', 'r3']) await ledger.admit(admission(requestId, exactly(5, 5)));
      for (const requestId of ['r1', 'r2'])
        await ledger.settle({ tenant: TENANT, requestId, bill: bill(5, 1), nowMs: NOON });
      ledger = await opened.reopen();
      expect(await state()).toEqual([[12, 10]]);
      expect(await ledger.holds({ limit: 10 })).toMatchObject([{ requestId: 'r3', holdTokens: 10, state: 'held' }]);
      const entries = await ledger.outbox(10);
      expect(entries.map(({ requestId }) => requestId)).toEqual(['r1', 'r2']);
      await ledger.acknowledgeOutbox(entries[0]?.sequence ?? 0);
      expect((await ledger.outbox(10)).map(({ requestId }) => requestId)).toEqual(['r2']);
    });

    test('random histories: never over a limit, nothing lost, nothing twice', async () => {
      await fc.assert(
        fc.asyncProperty(rulesArbitrary, fc.array(stepArbitrary, { maxLength: 60 }), async (rules, steps) => {
          const fresh = await open();
          try {
            await fresh.ledger.openTenant(TENANT);
            await fresh.ledger.addKey(KEY, HASH);
            await fresh.ledger.putQuotas(TENANT, rules, NOON);
            await follow(fresh, new NaiveLedger(rules), steps);
          } finally {
            await fresh.close();
          }
        }),
        { numRuns: runs },
      );
    });
  });
}

const MODELS = ['tiny', 'large'];
const rulesArbitrary = fc.uniqueArray(
  fc.record({
    window: fc.constantFrom('day', 'month', 'lifetime'),
    limitTokens: fc.integer({ min: 0, max: 400 }),
    models: fc.constantFrom(null, ['tiny'], ['large', 'tiny']),
    timeZone: fc.constantFrom('UTC', 'Europe/Berlin', 'Asia/Kathmandu'),
  }),
  { maxLength: 4, selector: ({ window, models, timeZone }) => JSON.stringify([window, models, timeZone]) },
);

const small = fc.integer({ min: 0, max: 60 });
const stepArbitrary = fc.oneof(
  fc.record({
    do: fc.constant('admit' as const),
    model: fc.constantFrom(...MODELS),
    prompt: small,
    output: small,
    choices: fc.integer({ min: 1, max: 3 }),
    exact: fc.boolean(),
    flexible: fc.boolean(),
  }),
  fc.record({ do: fc.constant('shrink' as const), which: fc.nat(20), to: fc.integer({ min: 0, max: 200 }) }),
  fc.record({
    do: fc.constant('settle' as const),
    which: fc.nat(20),
    input: small,
    output: fc.integer({ min: 0, max: 300 }),
  }),
  fc.record({ do: fc.constant('wait' as const), hours: fc.integer({ min: 0, max: 300 }) }),
  fc.record({ do: fc.constant('expire' as const) }),
  fc.record({ do: fc.constant('reopen' as const) }),
);
type Step = typeof stepArbitrary extends fc.Arbitrary<infer T> ? T : never;

interface NaiveRequest {
  id: string;
  model: string;
  reservedAtMs: number;
  held: number;
  /** null: not settled. */
  used: number | null;
}

/** Lists of everything that happened; every question adds them up. */
class NaiveLedger {
  readonly requests: NaiveRequest[] = [];
  readonly #rules: readonly QuotaRule[];

  constructor(rules: readonly QuotaRule[]) {
    this.#rules = rules;
  }

  meters(nowMs: number, model?: string) {
    return this.#rules
      .filter(({ models }) => model === undefined || models === null || models.includes(model))
      .map((rule) => {
        const { startMs, endMs } = windowAt(rule.window, rule.timeZone, nowMs);
        const mine = this.requests.filter(
          (one) =>
            one.reservedAtMs >= startMs &&
            one.reservedAtMs < (endMs ?? Infinity) &&
            (rule.models?.includes(one.model) ?? true),
        );
        return {
          limitTokens: rule.limitTokens,
          settledTokens: mine.reduce((sum, { used }) => sum + (used ?? 0), 0),
          heldTokens: mine.reduce((sum, { used, held }) => sum + (used === null ? held : 0), 0),
        };
      });
  }
}

async function follow(opened: OpenLedger, naive: NaiveLedger, steps: readonly Step[]): Promise<void> {
  let { ledger } = opened;
  let nowMs = NOON;
  const pick = (which: number) => naive.requests[which % Math.max(1, naive.requests.length)];
  for (const [index, step] of steps.entries()) {
    if (step.do === 'wait') nowMs += step.hours * 3_600_000;
    if (step.do === 'expire') await ledger.expire(nowMs);
    if (step.do === 'reopen') ledger = await opened.reopen();
    if (step.do === 'admit') {
      const demand = {
        promptTokens: step.prompt,
        outputTokens: step.output,
        choices: step.choices,
        promptExact: step.exact,
        outputFlexible: step.flexible,
      };
      const expected = decide(naive.meters(nowMs, step.model), demand);
      const id = `r${String(index).padStart(3, '0')}`;
      const actual: Admission = await ledger.admit(
        admission(id, demand, { model: step.model, nowMs, deadlineMs: nowMs + 1000, expiresMs: nowMs + 3_600_000 }),
      );
      expect(actual.kind).toBe(expected.kind);
      if (expected.kind === 'granted') {
        expect(actual).toMatchObject({ holdTokens: expected.holdTokens, outputTokens: expected.outputTokens });
        naive.requests.push({ id, model: step.model, reservedAtMs: nowMs, held: expected.holdTokens, used: null });
      }
    }
    const request = 'which' in step ? pick(step.which) : undefined;
    if (request && step.do === 'shrink') {
      await ledger.shrink({ tenant: TENANT, requestId: request.id, holdTokens: step.to });
      if (request.used === null) request.held = Math.min(request.held, step.to);
    }
    if (request && step.do === 'settle') {
      const wanted = bill(step.input, step.output);
      const settlement = await ledger.settle({ tenant: TENANT, requestId: request.id, bill: wanted, nowMs });
      expect(settlement).toBe(request.used === null ? 'booked' : 'already');
      const { inputTokens, outputTokens } = withinHold(wanted, request.held);
      request.used ??= inputTokens + outputTokens;
    }
    const quotas = await ledger.quotas(TENANT, nowMs);
    expect(quotas.map(countersOf)).toEqual(naive.meters(nowMs).map(countersOf));
    for (const { settledTokens, heldTokens, limitTokens } of quotas)
      expect(settledTokens + heldTokens).toBeLessThanOrEqual(limitTokens);
  }
  const entries = await ledger.outbox(1000);
  const settled = naive.requests.filter(({ used }) => used !== null);
  expect(
    entries.map(({ requestId, inputTokens, outputTokens }) => [requestId, inputTokens + outputTokens]).sort(),
  ).toEqual(settled.map(({ id, used }) => [id, used]).sort());
  expect((await ledger.holds({ limit: 1000 })).map(({ requestId }) => requestId)).toEqual(
    naive.requests.filter(({ used }) => used === null).map(({ id }) => id),
  );
}

function countersOf({
  limitTokens,
  settledTokens,
  heldTokens,
}: Pick<QuotaState, 'limitTokens' | 'settledTokens' | 'heldTokens'>) {
  return { limitTokens, settledTokens, heldTokens };
}
