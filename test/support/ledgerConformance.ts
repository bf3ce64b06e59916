// What every implementation of the ledger port must do, as one suite: the life of holds, keys, limits and the outbox by example, then
// random histories against naive models (ledgerHistories.ts, keyedHistories.ts).
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Demand } from '../../gateway/ledger/decide.ts';
import type { LimitRule, LimitState } from '../../gateway/ledger/limits.ts';
import type { Admission, AdmitCommand, KeyRecord, LedgerStore } from '../../gateway/ledger/port.ts';
import type { Price } from '../../gateway/prices/price.ts';
import { keyedHistories } from './keyedHistories.ts';
import { ledgerHistories } from './ledgerHistories.ts';

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
  models: null,
};
const daily = (limit: number, models: string[] | null = null): LimitRule => ({
  ...{ metric: 'tokens', window: 'day', limit, models, timeZone: 'UTC' },
});
const PRICE: Price = { version: 'price_1', inputNanoUsd: 10, cachedInputNanoUsd: 2, outputNanoUsd: 30 };
const exactly = (promptTokens: number, outputTokens: number): Demand => ({
  ...{ promptTokens, outputTokens, promptExact: true, choices: 1, outputFlexible: false },
});
const admission = (requestId: string, demand: Demand, extra: Partial<AdmitCommand> = {}): AdmitCommand => ({
  ...{ tenant: TENANT, hashes: [HASH], requestId, model: 'tiny', pool: 'pool-a', demand, price: null },
  ...{ nowMs: NOON, deadlineMs: NOON + 1000, expiresMs: NOON + 2000, ...extra },
});
const bill = (inputTokens: number, outputTokens: number) => ({
  ...{ inputTokens, cachedInputTokens: 0, outputTokens, outcome: 'completed' as const },
});

/** `runs`: random histories; fewer where each command crosses processes. */
export function ledgerConformance(name: string, open: () => Promise<OpenLedger>, { runs = 100 } = {}): void {
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
      (await ledger.limits(TENANT, nowMs)).map(({ settled, held }) => [settled, held]);
    const put = (rules: LimitRule[], keyId: string | null = null) =>
      ledger.putLimits(TENANT, [{ keyId, set: 'test', rules }], NOON);
    const granted = (value: Admission): number => {
      if (value.kind !== 'granted') throw new Error(`refused: ${value.kind}`);
      return value.hold.inputTokens + value.hold.outputTokens;
    };

    test('a hold is shrunk, settled once, and booked exactly', async () => {
      await put([daily(100)]);
      expect(granted(await ledger.admit(admission('r1', exactly(30, 40))))).toBe(70);
      expect(await state()).toEqual([[0, 70]]);
      await ledger.shrink({ tenant: TENANT, requestId: 'r1', inputTokens: 10, outputTokens: 40 });
      await ledger.shrink({ tenant: TENANT, requestId: 'r1', inputTokens: 20, outputTokens: 99 });
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

    test('a request that went on elsewhere is billed by the pool that has it now, and no less than was released before', async () => {
      await put([daily(1000)]);
      const [tenant, nowMs] = [TENANT, NOON];
      for (const id of ['r1', 'r2', 'r3']) await ledger.admit(admission(id, exactly(30, 40)));
      const released = { inputTokens: 30, cachedInputTokens: 10, positions: [5, 7] };
      const move = (requestId: string, pool: string, before: typeof released | null) =>
        ledger.reroute({ tenant, requestId, pool, released: before, nowMs: nowMs + 5 });
      for (const id of ['r1', 'r2', 'r3']) expect(await move(id, 'pool-b', released)).toBe(true);
      expect(await move('r4', 'pool-b', null)).toBe(false);
      ledger = await opened.reopen();
      const [hold] = await ledger.holds({ limit: 1 });
      expect(hold).toMatchObject({ pool: 'pool-b', leg: 1, legFromMs: nowMs + 5, released, reservedAtMs: nowMs });
      const settle = (requestId: string, output: number, word: { pool: string; leg?: number }) =>
        ledger.settle({ tenant, requestId, bill: bill(output > 0 ? 30 : 0, output), nowMs, word });
      expect(await settle('r1', 6, { pool: 'pool-a' })).toBe('elsewhere');
      expect(await settle('r1', 6, { pool: 'pool-b', leg: 0 })).toBe('elsewhere');
      expect(await state()).toEqual([[0, 210]]);
      expect(await settle('r1', 20, { pool: 'pool-b' })).toBe('booked');
      expect(await settle('r1', 6, { pool: 'pool-a' })).toBe('already');
      // The new pool knows nothing of it; so nothing is known but what was released.
      expect(await settle('r2', 0, { pool: 'pool-b', leg: 1 })).toBe('booked');
      expect(await move('r2', 'pool-c', released)).toBe(false);
      // Back again: the leg tells one life of the pool from the other.
      expect(await move('r3', 'pool-a', released)).toBe(true);
      expect(await settle('r3', 6, { pool: 'pool-a', leg: 0 })).toBe('elsewhere');
      expect(await settle('r3', 6, { pool: 'pool-a', leg: 2 })).toBe('booked');
      expect(await ledger.outbox(10)).toMatchObject([
        { requestId: 'r1', pool: 'pool-b', inputTokens: 30, cachedInputTokens: 0, outputTokens: 20 },
        { requestId: 'r2', pool: 'pool-b', inputTokens: 30, cachedInputTokens: 10, outputTokens: 12 },
        { requestId: 'r3', pool: 'pool-a', inputTokens: 30, cachedInputTokens: 0, outputTokens: 12 },
      ]);
      expect(await state()).toEqual([[134, 0]]);
    });

    test('a refused request holds nothing, in no window', async () => {
      await put([daily(1000), { ...daily(50), window: 'lifetime' }]);
      expect(await ledger.admit(admission('r1', exactly(20, 20)))).toMatchObject({ kind: 'granted' });
      const refused = await ledger.admit(admission('r2', exactly(20, 20)));
      expect(refused).toMatchObject({
        kind: 'held',
        limit: { window: 'lifetime' },
        needed: 40,
        retryAfterMs: expect.any(Number),
      });
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
      await put([daily(1000)]);
      const loose = (promptTokens: number): Demand => ({ ...exactly(promptTokens, 1), promptExact: false });
      expect(await ledger.admit(admission('r1', loose(9)))).toMatchObject({ kind: 'granted' });
      expect(await ledger.admit(admission('r2', loose(10)))).toEqual({ kind: 'count_first' });
      expect(await ledger.holds({ limit: 10 })).toHaveLength(1);
    });

    test('a hold past its expiry is unresolved and still counts, until a late receipt settles it', async () => {
      await put([daily(100)]);
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
      await put([daily(100)]);
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
      await put([daily(100), daily(100, ['tiny']), { ...daily(100), window: 'lifetime' }]);
      expect(await state()).toEqual([
        [17, 10],
        [17, 0],
        [17, 10],
      ]);
      await put([daily(5)]);
      expect(await state()).toEqual([[17, 10]]);
      expect(await ledger.admit(admission('r3', exactly(1, 1)))).toMatchObject({ kind: 'exhausted' });
      await ledger.settle({ tenant: TENANT, requestId: 'r2', bill: bill(5, 0), nowMs: NOON });
      expect(await state()).toEqual([[22, 0]]);
    });

    test('a bill is never more than its hold', async () => {
      await put([daily(20)]);
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
      await put([daily(100)]);
      for (const requestId of ['r1', 'r2', 'r3']) await ledger.admit(admission(requestId, exactly(5, 5)));
      for (const requestId of ['r1', 'r2'])
        await ledger.settle({ tenant: TENANT, requestId, bill: bill(5, 1), nowMs: NOON });
      ledger = await opened.reopen();
      expect(await state()).toEqual([[12, 10]]);
      expect(await ledger.holds({ limit: 10 })).toMatchObject([
        { requestId: 'r3', inputTokens: 5, outputTokens: 5, state: 'held' },
      ]);
      const entries = await ledger.outbox(10);
      expect(entries.map(({ requestId }) => requestId)).toEqual(['r1', 'r2']);
      await ledger.acknowledgeOutbox(entries[0]?.sequence ?? 0);
      expect((await ledger.outbox(10)).map(({ requestId }) => requestId)).toEqual(['r2']);
    });

    const rule = (metric: LimitRule['metric'], window: LimitRule['window'], limit: number): LimitRule => ({
      ...{ metric, window, limit, models: null, timeZone: 'UTC' },
    });
    const settle = (requestId: string, input: number, output: number, nowMs = NOON) =>
      ledger.settle({ tenant: TENANT, requestId, bill: bill(input, output), nowMs });

    test('a sliding minute: nothing passes at a border until what was used has left, and the wait says when', async () => {
      await put([rule('requests', 'minute', 2)]);
      const ask = (requestId: string, nowMs: number) => ledger.admit(admission(requestId, exactly(1, 1), { nowMs }));
      expect((await ask('r1', NOON + 59_000)).kind).toBe('granted');
      expect((await ask('r2', NOON + 59_900)).kind).toBe('granted');
      await settle('r1', 1, 1);
      const refused = await ask('r3', NOON + 60_000);
      expect(refused).toMatchObject({
        kind: 'rate',
        limit: { window: 'minute', settled: 1, held: 1 },
        retryAfterMs: 60_000,
      });
      expect((await ask('r3', NOON + 119_999)).kind).toBe('rate');
      expect((await ask('r3', NOON + 120_000)).kind).toBe('granted');
    });

    test('a minute of tokens frees what a hold was shrunk by, and forgets what has left', async () => {
      await put([rule('tokens', 'minute', 100)]);
      await ledger.admit(admission('r1', exactly(50, 40)));
      expect(await ledger.admit(admission('r2', exactly(10, 10)))).toMatchObject({ kind: 'rate', needed: 20 });
      expect((await ledger.admit(admission('r2', exactly(91, 10)))).kind).toBe('too_large');
      await ledger.shrink({ tenant: TENANT, requestId: 'r1', inputTokens: 20, outputTokens: 40 });
      expect(await state()).toEqual([[0, 60]]);
      await settle('r1', 20, 10);
      expect(await state()).toEqual([[30, 0]]);
      expect(await state(NOON + 60_999)).toEqual([[30, 0]]);
      expect(await state(NOON + 61_000)).toEqual([[0, 0]]);
      expect((await ledger.admit(admission('r3', exactly(50, 50), { nowMs: NOON + 61_000 }))).kind).toBe('granted');
      await settle('r3', 50, 0, NOON + 200_000);
      expect(await state(NOON + 200_000)).toEqual([[0, 0]]);
    });

    test('a clock that is set back opens no room in a minute, by a little or by an hour', async () => {
      await put([rule('requests', 'minute', 1)]);
      const at = (seconds: number) =>
        ledger.admit(admission(`r${seconds}`, exactly(1, 1), { nowMs: NOON + seconds * 1000 }));
      expect((await at(0)).kind).toBe('granted');
      for (const seconds of [-1, -61, -299, 30]) expect((await at(seconds)).kind).toBe('rate');
      expect((await at(61)).kind).toBe('granted');
      // Too far: the old time was wrong. What it counted counts for a minute more from here.
      for (const seconds of [-3600, -3600 + 60]) expect((await at(seconds)).kind).toBe('rate');
      expect((await at(-3600 + 61)).kind).toBe('granted');
      await settle('r61', 1, 1);
      await settle('r-3539', 1, 1);
      expect(await state(NOON - 3_600_000 + 61_000)).toEqual([[1, 0]]);
    });

    test('requests at once: one that ends, however it ends, or whose time is over, makes room for another', async () => {
      await put([rule('concurrent', 'none', 2)]);
      const ask = async (requestId: string) => (await ledger.admit(admission(requestId, exactly(1, 1)))).kind;
      expect([await ask('r1'), await ask('r2'), await ask('r3')]).toEqual(['granted', 'granted', 'rate']);
      await settle('r1', 1, 1);
      expect([await ask('r4'), await ask('r5')]).toEqual(['granted', 'rate']);
      expect(await ledger.expire(NOON + 2000)).toBe(2);
      expect(await state()).toEqual([[0, 0]]);
      await settle('r2', 1, 1, NOON + 3000);
      expect(await state()).toEqual([[0, 0]]);
      expect([await ask('r6'), await ask('r7'), await ask('r8')]).toEqual(['granted', 'granted', 'rate']);
    });

    test('spend is held at its dearest and settled at the price of the reservation', async () => {
      await put([rule('spend', 'month', 1000)]);
      const priced = (requestId: string, demand: Demand, price: Price | null = PRICE) =>
        ledger.admit(admission(requestId, demand, { price }));
      expect((await priced('r1', exactly(10, 30))).kind).toBe('granted');
      expect(await state()).toEqual([[0, 1000]]);
      expect(await priced('r2', exactly(1, 0))).toMatchObject({ kind: 'held', limit: { metric: 'spend' }, needed: 10 });
      expect((await priced('r3', exactly(1000, 1000), null)).kind).toBe('granted');
      const cached = { inputTokens: 10, cachedInputTokens: 5, outputTokens: 20, outcome: 'completed' as const };
      await ledger.settle({ tenant: TENANT, requestId: 'r1', bill: cached, nowMs: NOON });
      expect(await state()).toEqual([[660, 0]]);
      expect(await priced('r4', exactly(5, 10))).toMatchObject({ kind: 'exhausted', limit: { metric: 'spend' } });
      expect(await priced('r5', { ...exactly(4, 99), outputFlexible: true })).toMatchObject({ outputTokens: 10 });
      expect(await ledger.outbox(10)).toMatchObject([{ requestId: 'r1', price: PRICE, costNanoUsd: 660 }]);
    });

    test("a key's own limits bind that key alone, beside the tenant's; they die with it", async () => {
      const second = { pepperVersion: 1, hash: '77'.repeat(32) };
      await ledger.addKey({ ...KEY, id: 'key_2' }, second);
      await put([rule('tokens', 'day', 100)]);
      await put([rule('tokens', 'day', 15)], 'key_2');
      const of = async (requestId: string, hashes = [second]) =>
        ledger.admit(admission(requestId, exactly(5, 5), { hashes }));
      expect((await of('r1')).kind).toBe('granted');
      expect(await of('r2')).toMatchObject({ kind: 'held', limit: { keyId: 'key_2', limit: 15 } });
      expect((await of('r2', [HASH])).kind).toBe('granted');
      const shown = async (hashes: AdmitCommand['hashes']) => {
        const status = await ledger.keyStatus({ tenant: TENANT, hashes, nowMs: NOON });
        return status.kind === 'known' ? status.limits.map(({ keyId, held }: LimitState) => [keyId, held]) : status;
      };
      expect(await shown([HASH])).toEqual([[null, 20]]);
      expect(await shown([second])).toEqual([
        [null, 20],
        ['key_2', 10],
      ]);
      await ledger.deleteKey(TENANT, 'key_2');
      expect(await state()).toEqual([[0, 20]]);
    });

    test('models that tenant or key may not use are refused and hold nothing', async () => {
      await ledger.changeKey(TENANT, 'key_1', { models: ['tiny', 'large'] });
      await ledger.allowModels(TENANT, ['tiny', 'other']);
      const ask = async (model: string) => (await ledger.admit(admission(`r-${model}`, exactly(1, 1), { model }))).kind;
      expect([await ask('tiny'), await ask('large'), await ask('other')]).toEqual([
        'granted',
        'model_not_allowed',
        'model_not_allowed',
      ]);
      expect(await ledger.allowedModels(TENANT)).toEqual(['tiny', 'other']);
      expect(await ledger.keyStatus({ tenant: TENANT, hashes: [HASH], nowMs: NOON })).toMatchObject({
        allowedModels: ['tiny'],
      });
      expect(await ledger.holds({ limit: 10 })).toHaveLength(1);
      expect(await ledger.changeKey(TENANT, 'key_9', { name: 'x' })).toBe(false);
    });

    test('sets of limits are replaced apart, and more than the bound is refused whole', async () => {
      await put([daily(1)]);
      await ledger.putLimits(TENANT, [{ keyId: null, set: 'other', rules: [rule('requests', 'day', 3)] }], NOON);
      const many = Array.from({ length: 64 }, (_, i) => ({ ...daily(5), models: [`m${i}`] }));
      expect(await ledger.putLimits(TENANT, [{ keyId: null, set: 'test', rules: many }], NOON)).toBe('too_many');
      expect((await ledger.limits(TENANT, NOON)).map(({ set, limit }) => [set, limit])).toEqual([
        ['other', 3],
        ['test', 1],
      ]);
      expect(await put([])).toHaveLength(1);
    });

    test('a rotated key is good by both values until its grace is over, then by the new one alone', async () => {
      const [next, last] = ['56', '78'].map((byte) => ({ pepperVersion: 1, hash: byte.repeat(32) }));
      if (!next || !last) throw new Error('two hashes');
      const good = async (hash: typeof HASH, nowMs: number) => {
        const status = await ledger.keyStatus({ tenant: TENANT, hashes: [hash], nowMs });
        return status.kind === 'known' ? status.key.id : status.kind;
      };
      const rotate = (hash: typeof HASH, oldGoodUntilMs: number) =>
        ledger.rotateKey({ tenant: TENANT, keyId: 'key_1', hash, redacted: 'sk-new', oldGoodUntilMs });
      expect(await rotate(next, NOON + 1000)).toBe(true);
      expect([await good(HASH, NOON + 999), await good(next, NOON)]).toEqual(['key_1', 'key_1']);
      expect([await good(HASH, NOON + 1000), await good(next, NOON + 1000)]).toEqual(['expired_key', 'key_1']);
      expect(await rotate(last, NOON + 2000)).toBe(true);
      expect([await good(HASH, NOON), await good(next, NOON + 1999), await good(last, NOON)]).toEqual([
        ...['unknown_key', 'key_1', 'key_1'],
      ]);
      expect(await ledger.keys(TENANT)).toMatchObject([{ id: 'key_1', redacted: 'sk-new' }]);
      await ledger.deleteKey(TENANT, 'key_1');
      expect([await good(next, NOON), await good(last, NOON)]).toEqual(['unknown_key', 'unknown_key']);
      expect(
        await ledger.rotateKey({ tenant: TENANT, keyId: 'key_1', hash: HASH, redacted: '', oldGoodUntilMs: 0 }),
      ).toBe(false);
    });

    test("a key's last use is told to the minute, and to a quarter of an hour after a restart", async () => {
      const told = async () => (await ledger.keys(TENANT))[0]?.lastUsedAtMs;
      const use = async (minutes: number): Promise<number | null | undefined> => {
        await ledger.keyStatus({ tenant: TENANT, hashes: [HASH], nowMs: NOON + minutes * 60_000 });
        return told();
      };
      expect(await told()).toBe(null);
      expect(await use(0)).toBe(NOON);
      expect(await use(0.9)).toBe(NOON);
      expect(await use(5)).toBe(NOON + 5 * 60_000);
      ledger = await opened.reopen();
      expect(await told()).toBe(NOON);
      expect(await use(15)).toBe(NOON + 15 * 60_000);
      ledger = await opened.reopen();
      expect(await told()).toBe(NOON + 15 * 60_000);
    });

    test('keys that no newest pepper has hashed yet are listed until they are used', async () => {
      const newest = { pepperVersion: 2, hash: '12'.repeat(32) };
      expect(await ledger.stragglers(TENANT, 1)).toEqual([]);
      const listed = [{ keyId: 'key_1', pepperVersion: 1, lastUsedAtMs: null }];
      expect(await ledger.stragglers(TENANT, 2)).toEqual(listed);
      const next = { pepperVersion: 1, hash: '34'.repeat(32) };
      const rotation = { tenant: TENANT, keyId: 'key_1', hash: next, redacted: 'sk-…' };
      await ledger.rotateKey({ ...rotation, oldGoodUntilMs: NOON + 1000 });
      expect(await ledger.stragglers(TENANT, 2), 'once, though it has two values').toEqual(listed);
      await ledger.rotateKey({ ...rotation, hash: newest, oldGoodUntilMs: NOON });
      await ledger.rotateKey({ ...rotation, hash: { pepperVersion: 2, hash: '56'.repeat(32) }, oldGoodUntilMs: NOON });
      expect(await ledger.stragglers(TENANT, 2)).toEqual([]);
    });

    ledgerHistories(open, runs);
    keyedHistories(open, runs);
  });
}
