// Random interleavings of requests under idempotency keys against a naive model: clients that ask and reserve at different moments, two at
// once, other bodies under one key, attempts that end with an answer, without one, or in the middle, clocks that run past the keys' time,
// and processes that end between any two steps.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Bill } from '../../gateway/ledger/bill.ts';
import { MAX_ATTEMPTS } from '../../gateway/ledger/idempotency.ts';
import type { Admission, LedgerStore, Recollection } from '../../gateway/ledger/port.ts';
import type { OpenLedger } from './ledgerConformance.ts';

const START = Date.UTC(2026, 6, 15, 12);
const TENANT = 'proj_000000000000000000000003';
const HASH = { pepperVersion: 1, hash: 'b0'.repeat(32) };
const KEEP_MS = 10_000;
const PROMPT = 7;
const CHOICES = 2;
const OUTPUT = 5;
const LIMIT = 100;

const positions = fc.array(fc.integer({ min: 0, max: OUTPUT }), { minLength: CHOICES, maxLength: CHOICES });
const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant('ask' as const), key: fc.nat(2), body: fc.constantFrom(0, 0, 0, 1) }),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('admit' as const), which: fc.nat(9) }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('end' as const),
      which: fc.nat(9),
      how: fc.constantFrom('answered' as const, 'answered late' as const, 'cut' as const, 'refused' as const),
      positions,
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.nat(KEEP_MS) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('reopen' as const, 'expire' as const) }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** A client between its question and its reservation. */
interface Asking {
  key: number;
  body: number;
  /** Id to reserve under, by what it was told. */
  id: string;
}

interface Kept {
  keyHash: string;
  body: number;
  stem: string;
  seed: number;
  attempts: number;
  /** The attempt that holds tokens. */
  open: string | null;
  billed: number[];
  prompt: number;
  answer: string | null;
  expiresAtMs: number;
}

const sum = (all: readonly number[]) => all.reduce((total, one) => total + one, 0);

class NaiveKeys {
  readonly kept = new Map<number, Kept>();
  readonly rows: { id: string; tokens: number }[] = [];
  /** Of attempts whose record has expired and been replaced nothing can be open. */
  get used(): number {
    return sum(this.rows.map(({ tokens }) => tokens));
  }

  get held(): number {
    return sum([...this.kept.values()].map((one) => (one.open === null ? 0 : holdOf(one))));
  }

  standing(key: number, body: number, nowMs: number): string {
    const one = this.kept.get(key);
    if (!one || (one.open === null && nowMs >= one.expiresAtMs)) return 'absent';
    if (one.body !== body) return 'key_reused';
    if (one.open !== null) return 'in_progress';
    if (one.answer !== null) return 'answered';
    return one.attempts < MAX_ATTEMPTS ? 'lost' : 'attempts_exhausted';
  }
}

/** What is left to bill of all that it may use. */
function holdOf({ prompt, billed }: Kept): number {
  return PROMPT - prompt + CHOICES * OUTPUT - sum(billed);
}

const presented = (key: number, body: number) => ({ keyHash: `key${key}`, bodyDigest: `body${body}` });
const caller = { tenant: TENANT, hashes: [HASH] };

/** `runs`: how many of them. */
export function keyedHistories(open: () => Promise<OpenLedger>, runs: number): void {
  test('random interleavings under idempotency keys: one attempt at a time, each position billed once, answers as they were', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 80, size: 'max' }), async (steps) => {
        const opened = await open();
        try {
          await opened.ledger.openTenant(TENANT);
          const times = { createdAtMs: START, lastUsedAtMs: null, expiresAtMs: null };
          const names = { id: 'key_1', tenant: TENANT, serviceAccountId: null, name: 'k', redacted: '', models: null };
          await opened.ledger.addKey({ ...names, ...times }, HASH);
          const rule = { metric: 'tokens', window: 'lifetime', limit: LIMIT, models: null, timeZone: 'UTC' } as const;
          await opened.ledger.putLimits(TENANT, [{ keyId: null, set: 'test', rules: [rule] }], START);
          await follow(opened, steps);
        } finally {
          await opened.close();
        }
      }),
      { numRuns: runs },
    );
  }, 120_000);
}

async function follow(opened: OpenLedger, steps: readonly Step[]): Promise<void> {
  const naive = new NaiveKeys();
  const asking: Asking[] = [];
  let { ledger } = opened;
  let nowMs = START;
  for (const [index, one] of steps.entries()) {
    if (one.do === 'wait') nowMs += one.ms;
    if (one.do === 'expire') await ledger.expire(nowMs);
    if (one.do === 'reopen') {
      ledger = await opened.reopen();
      asking.length = 0;
    }
    if (one.do === 'ask') {
      const told = await ledger.recall({ ...caller, ...presented(one.key, one.body), model: 'tiny', nowMs });
      check(told, naive, one.key, one.body, nowMs);
      if (told.kind === 'absent') asking.push({ ...one, id: `r${index}` });
      if (told.kind === 'lost') asking.push({ ...one, id: told.next });
    }
    if (one.do === 'admit' && asking.length > 0) {
      const [mine] = asking.splice(one.which % asking.length, 1);
      if (mine) await admit(ledger, naive, mine, index, nowMs);
    }
    if (one.do === 'end') await end(ledger, naive, one, index, nowMs);
    const [limit] = await ledger.limits(TENANT, nowMs);
    expect(limit).toMatchObject({ settled: naive.used, held: naive.held });
    expect(naive.used + naive.held).toBeLessThanOrEqual(LIMIT);
  }
  const open = [...naive.kept.values()].flatMap((one) => one.open ?? []);
  expect((await ledger.holds({ limit: 1000 })).map(({ requestId }) => requestId)).toEqual(open.sort());
  const rows = await ledger.outbox(1000);
  expect(rows.map((row) => [row.requestId, row.inputTokens + row.outputTokens])).toEqual(
    naive.rows.map(({ id, tokens }) => [id, tokens]),
  );
}

function check(told: Recollection, naive: NaiveKeys, key: number, body: number, nowMs: number): void {
  expect(told.kind).toBe(naive.standing(key, body, nowMs));
  const kept = naive.kept.get(key);
  if (told.kind === 'lost') expect(told.next).toBe(`${kept?.stem}.${(kept?.attempts ?? 0) + 1}`);
  if (told.kind !== 'answered') return;
  expect(told.requestId).toBe(kept?.stem);
  expect(Buffer.from(told.answer).toString()).toBe(kept?.answer);
}

async function admit(ledger: LedgerStore, naive: NaiveKeys, mine: Asking, index: number, nowMs: number): Promise<void> {
  const { key, body, id } = mine;
  const standing = naive.standing(key, body, nowMs);
  const before = naive.kept.get(key);
  const admission = await ledger.admit({
    ...{ ...caller, requestId: id, model: 'tiny', pool: 'pool-a', price: null, nowMs },
    demand: { promptTokens: PROMPT, promptExact: true, choices: CHOICES, outputTokens: OUTPUT, outputFlexible: false },
    ...{ deadlineMs: nowMs + 1000, expiresMs: nowMs + 2000 },
    idempotency: { ...presented(key, body), seed: index, keptUntilMs: nowMs + KEEP_MS },
  });
  const again = standing === 'lost' && before ? `${before.stem}.${before.attempts + 1}` : null;
  const mayRun = standing === 'absent' ? !id.includes('.') : again === id;
  if (!mayRun) {
    const told = standing === 'key_reused' || standing === 'attempts_exhausted' ? standing : 'in_progress';
    expect(admission.kind).toBe(told);
    return;
  }
  const next: Kept =
    standing === 'lost' && before
      ? { ...before, attempts: before.attempts + 1, open: id }
      : {
          keyHash: presented(key, body).keyHash,
          body,
          stem: id,
          seed: index,
          attempts: 1,
          open: id,
          billed: [],
          prompt: 0,
          answer: null,
          expiresAtMs: nowMs + KEEP_MS,
        };
  const fits = naive.used + naive.held + holdOf(next) <= LIMIT;
  expect(admission.kind === 'granted').toBe(fits);
  if (!fits) return;
  expect(grantedOf(admission)).toMatchObject({
    ...{ seed: next.seed, outputTokens: OUTPUT },
    hold: { inputTokens: PROMPT, outputTokens: CHOICES * OUTPUT },
  });
  naive.kept.set(key, next);
}

function grantedOf(admission: Admission): Extract<Admission, { kind: 'granted' }> {
  if (admission.kind !== 'granted') throw new Error(admission.kind);
  return admission;
}

async function end(
  ledger: LedgerStore,
  naive: NaiveKeys,
  one: Extract<Step, { do: 'end' }>,
  index: number,
  nowMs: number,
): Promise<void> {
  const open = [...naive.kept.values()].filter((kept) => kept.open !== null);
  const kept = open[one.which % Math.max(1, open.length)];
  if (!kept?.open) return;
  const answered = one.how === 'answered' || one.how === 'answered late';
  const released = answered ? [OUTPUT, OUTPUT] : one.how === 'cut' ? one.positions : [];
  const bill: Bill = {
    ...{ inputTokens: one.how === 'refused' ? 0 : PROMPT, cachedInputTokens: 0, outputTokens: sum(released) },
    ...{ outcome: answered ? 'completed' : 'failed', positions: released },
  };
  const text = answered ? `answer ${index}` : null;
  const settle = { tenant: TENANT, requestId: kept.open, bill, nowMs };
  const sealed = text !== null && { answer: { keyHash: kept.keyHash, sealed: new TextEncoder().encode(text) } };
  expect(await ledger.settle(one.how === 'answered late' ? settle : { ...settle, ...sealed })).toBe('booked');
  expect(await ledger.settle({ ...settle, ...sealed })).toBe('already');
  const billed = Array.from({ length: CHOICES }, (_, i) => Math.max(kept.billed[i] ?? 0, released[i] ?? 0));
  const prompt = Math.max(kept.prompt, bill.inputTokens);
  naive.rows.push({ id: kept.open, tokens: prompt - kept.prompt + sum(billed) - sum(kept.billed) });
  Object.assign(kept, { billed, prompt, open: null, answer: text });
}
