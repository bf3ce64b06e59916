// The relay's pure decisions as tables: which pool, what becomes of a hold that nobody watches, how much a prompt can be.
import { createSecretKey, randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { PoolStatus, Receipt, ServedModel } from '../../pool/wire/events.ts';
import { MAX_CLOCK_SKEW_MS } from '../../pool/wire/signing.ts';
import type { PoolState } from '../../pool/wire/states.ts';
import { systemClock } from '../clock.ts';
import { Leases } from '../leases.ts';
import { billOf } from '../ledger/bill.ts';
import { Breaker } from '../routing/breaker.ts';
import { PrefixAffine } from '../routing/prefixAffine.ts';
import { boundOfChat, boundOfCompletion } from './bound.ts';
import { PoolClient } from './poolClient.ts';
import { choosePool, type PoolState as KnownPool } from './poolRegistry.ts';
import { type HoldEvidence, resolveHold } from './resolve.ts';

const NOW = 1_800_000_000_000;
const MODEL: ServedModel = {
  ...{ id: 'tiny', created: 0, context_length: 100, fingerprint: 'f', state: 'warm' },
  ...{ template_tokens_per_message: 4, template_tokens_per_prompt: 3 },
};

function inFlight(requests: number): Leases {
  const leases = new Leases();
  for (let i = 0; i < requests; i++) leases.take(NOW + 1);
  return leases;
}

function pool(id: string, extra: Partial<KnownPool> = {}, status: Partial<PoolStatus> = {}): KnownPool {
  const target = { id, url: 'http://127.0.0.1:9', keyId: 'k', secret: createSecretKey(new Uint8Array(32)) };
  const told: PoolStatus = {
    ...{ pool_id: id, started_at_ms: 0, state: 'warm', models: [MODEL], adapter: '' },
    ...{ running: 0, waiting: 0, blocks_total: 1, blocks_free: 1, public_prefixes: null, ...status },
  };
  return {
    client: new PoolClient(target, { fetch, clock: systemClock, random: (count) => randomBytes(count) }),
    ...{
      declaredModels: [],
      retired: false,
      status: told,
      statusAtMs: NOW,
      askedAtMs: NOW,
      answeredAtMs: NOW,
      failures: 0,
      breaker: new Breaker(),
      inFlight: inFlight(0),
      ...extra,
    },
  };
}

const inState = (state: PoolState): Partial<PoolStatus> => ({ state, models: [{ ...MODEL, state }] });
const broken = (id: string) => {
  const breaker = new Breaker();
  for (let i = 0; i < 5; i++) breaker.failed(NOW);
  return pool(id, { breaker });
};
const warm = (id: string, running: number) => pool(id, {}, { running });

describe('choosing a pool', () => {
  const chosen = (pools: KnownPool[], model = 'tiny') => {
    const choice = choosePool(pools, model, NOW, new PrefixAffine());
    return choice.kind === 'pool' ? choice.pool.client.target.id : choice.kind;
  };
  test.each<[string, KnownPool[], string]>([
    ['the least loaded', [pool('a', {}, { running: 2 }), pool('b', {}, { running: 1 })], 'b'],
    ['by what this gateway knows better', [pool('a', { inFlight: inFlight(5) }), pool('b', {}, { waiting: 2 })], 'b'],
    [
      'never one that drains or has stopped',
      [pool('a', {}, inState('draining')), pool('b', {}, inState('stopped'))],
      'none_ready',
    ],
    ['the one that is warm before one that sleeps', [pool('a', {}, inState('asleep')), warm('b', 15)], 'b'],
    [
      'one that wakes before one that sleeps',
      [pool('a', {}, inState('asleep')), pool('b', {}, inState('waking'))],
      'b',
    ],
    ['one that sleeps where no other is there', [pool('a', {}, inState('asleep'))], 'a'],
    ['one that sleeps where the warm ones have too much to do', [pool('a', {}, inState('asleep')), warm('b', 17)], 'a'],
    ['never one whose last question failed', [pool('a', { failures: 1 })], 'none_ready'],
    ['never one whose breaker is open, where another is as good', [broken('a'), pool('b'), pool('c')], 'b'],
    [
      'one whose breaker is open, where it would be more than half of them',
      [broken('a'), broken('b'), warm('c', 2)],
      'a',
    ],
    ['never one whose status is old', [pool('a', { statusAtMs: NOW - 60_000 })], 'none_ready'],
    [
      'a declared model is known before its pool is up',
      [pool('a', { status: null, declaredModels: ['tiny'] })],
      'none_ready',
    ],
    ['a pool that was never heard of may serve anything', [pool('a', { status: null })], 'none_ready'],
    ['nothing serves it', [pool('a', {}, { models: [] })], 'unknown_model'],
    ['no pools', [], 'unknown_model'],
  ])('%s', (_, pools, expected) => expect(chosen(pools)).toBe(expected));
});

describe('a place for a stream that has begun', () => {
  const other = { models: [{ ...MODEL, fingerprint: 'other' }] };
  const place = (pools: KnownPool[], lastResort: boolean) => {
    const accepts = (_: KnownPool, { fingerprint }: ServedModel) => fingerprint === MODEL.fingerprint;
    const choice = choosePool(pools, 'tiny', NOW, new PrefixAffine(), { accepts, lastResort });
    return choice.kind === 'pool' ? choice.pool.client.target.id : choice.kind;
  };
  const others = [pool('x', {}, other), pool('y', {}, other), pool('z', {}, other)];
  test.each<[string, KnownPool[], boolean, string]>([
    ['one whose breaker is open, where no other has its fingerprint', [...others, broken('a')], true, 'a'],
    ['one whose breaker is closed before it, however loaded', [...others, broken('a'), warm('b', 9)], true, 'b'],
    ['never one of another fingerprint', others, true, 'none_ready'],
    ['a request that can begin elsewhere does not need it', [...others, broken('a')], false, 'none_ready'],
  ])('%s', (_, pools, begun, expected) => expect(place(pools, begun)).toBe(expected));
});

describe('a hold that nobody watches', () => {
  const receipt: Receipt = {
    ...{ request_id: 'r', pool_id: 'a', tenant: 't', model: 'tiny', prompt_tokens: 10, cached_tokens: 4 },
    ...{ choices: [3, 2], outcome: 'lost', started_at_ms: NOW, updated_at_ms: NOW },
  };
  const unknown = {
    receipt: null,
    poolStartedAtMs: NOW - 5000,
    signedBeforeMs: NOW,
    deadlineMs: NOW + 600_000,
    nowMs: NOW + 1000,
    goesOnWithinMs: null,
    fenced: false,
  };
  test('waits for a running request', () => {
    expect(resolveHold({ ...unknown, receipt: { ...receipt, outcome: 'running' } })).toBeNull();
  });
  test('is billed by its receipt', () => {
    expect(resolveHold({ ...unknown, receipt })).toEqual({
      inputTokens: 10,
      cachedInputTokens: 4,
      outputTokens: 5,
      outcome: 'failed',
      positions: [3, 2],
    });
  });
  const GOES_ON_MS = 20_000;
  /** After so long. */
  const settledFrom = (evidence: HoldEvidence) => {
    const { deadlineMs } = evidence;
    for (let nowMs = NOW; nowMs <= deadlineMs + MAX_CLOCK_SKEW_MS + 1; nowMs += 1000)
      for (const atMs of [nowMs, nowMs + 1]) if (resolveHold({ ...evidence, nowMs: atMs })) return atMs - NOW;
    return null;
  };
  test('whose pool failed waits for its relay, which may go on elsewhere, as long as that may live', () => {
    const lost = { ...unknown, goesOnWithinMs: GOES_ON_MS };
    const never = lost.deadlineMs - NOW + MAX_CLOCK_SKEW_MS + 1;
    const outcomes = (['lost', 'failed', 'cancelled', 'completed'] as const).map((outcome) =>
      settledFrom({ ...lost, receipt: { ...receipt, outcome } }),
    );
    // A cancelled one has mostly lost its relay with its client: it waits no longer than one that lives may look for a pool.
    expect(outcomes).toEqual([never, never, GOES_ON_MS + MAX_CLOCK_SKEW_MS + 1, 0]);
    const left = (['lost', 'failed', 'cancelled'] as const).map((outcome) =>
      settledFrom({ ...unknown, receipt: { ...receipt, outcome } }),
    );
    expect(left).toEqual([0, 0, 0]);
  });
  test('unknown to its pool, with a relay that may live: ends when that has found no other pool either, whenever the pool was started', () => {
    const asked = { ...unknown, goesOnWithinMs: GOES_ON_MS };
    const stale = 2 * MAX_CLOCK_SKEW_MS + 1;
    const from = (poolStartedAtMs: number | null) => settledFrom({ ...asked, poolStartedAtMs });
    expect(from(null)).toBe(stale + GOES_ON_MS);
    expect(from(NOW - 5000)).toBe(stale + GOES_ON_MS);
    expect(from(NOW + 1000)).toBe(stale + GOES_ON_MS);
    expect(from(NOW + 300_000)).toBe(300_000 + MAX_CLOCK_SKEW_MS + GOES_ON_MS + 1);
    expect(from(asked.deadlineMs)).toBe(asked.deadlineMs - NOW + MAX_CLOCK_SKEW_MS + 1);
  });
  test('unknown to its pool: open while the pool could still take it, then free', () => {
    expect(resolveHold(unknown)).toBeNull();
    expect(resolveHold({ ...unknown, poolStartedAtMs: null })).toBeNull();
    expect(resolveHold({ ...unknown, nowMs: NOW + 2 * MAX_CLOCK_SKEW_MS })).toBeNull();
    const free = { inputTokens: 0, outputTokens: 0, outcome: 'failed' };
    expect(resolveHold({ ...unknown, nowMs: NOW + 2 * MAX_CLOCK_SKEW_MS + 1 })).toMatchObject(free);
    expect(resolveHold({ ...unknown, poolStartedAtMs: NOW + 1 })).toMatchObject(free);
    expect(resolveHold({ ...unknown, fenced: true })).toMatchObject(free);
    expect(resolveHold({ ...unknown, deadlineMs: NOW, nowMs: NOW + MAX_CLOCK_SKEW_MS })).toBeNull();
    expect(resolveHold({ ...unknown, deadlineMs: NOW, nowMs: NOW + MAX_CLOCK_SKEW_MS + 1 })).toMatchObject(free);
  });
  test.each([
    ['completed', [1], 11],
    ['cancelled', [0], 10],
    ['failed', [0], 0],
    ['failed', [1], 11],
    ['lost', [0], 0],
  ] as const)('%s with %j released costs %i tokens', (outcome, choices, tokens) => {
    const { inputTokens, outputTokens } = billOf({ ...receipt, outcome, choices: [...choices] });
    expect(inputTokens + outputTokens).toBe(tokens);
  });
  test.each([
    ['completed', [3], 'estimated'],
    ['cancelled', [0], 'estimated'],
    ['lost', [3], 'estimated'],
    ['failed', [0], 'failed'],
  ] as const)('%s with %j released, not all of it counted exactly, is billed as %s', (outcome, choices, billed) => {
    const bill = billOf({ ...receipt, outcome, choices: [...choices], estimated: true });
    expect(bill).toMatchObject({ outcome: billed, outputTokens: choices[0] });
  });
});

describe('bounds of prompts', () => {
  test('a chat: bytes, name, and the template per message and prompt', () => {
    const messages = [
      { role: 'user' as const, content: 'é', name: 'bob' },
      {
        role: 'assistant' as const,
        content: [
          { type: 'text' as const, text: 'a' },
          { type: 'text' as const, text: 'b' },
        ],
      },
    ];
    expect(boundOfChat(messages, MODEL)).toEqual({ tokens: 2 + 3 + 2 + 2 * 4 + 3, longestTokens: 18, exact: false });
  });
  test('never more than the context, which the pool enforces', () => {
    expect(boundOfChat([{ role: 'user', content: 'x'.repeat(5000) }], MODEL).tokens).toBe(100);
  });
  test('completions: text by bytes, ids exactly, lists summed', () => {
    expect(boundOfCompletion('abc', MODEL)).toEqual({ tokens: 5, longestTokens: 5, exact: false });
    expect(boundOfCompletion([[1, 2, 3], [4]], MODEL)).toEqual({ tokens: 4, longestTokens: 3, exact: true });
    expect(boundOfCompletion(['abc', 'x'], MODEL)).toEqual({ tokens: 8, longestTokens: 5, exact: false });
  });
  test('a lone surrogate counts as the three bytes it is sent as', () => {
    expect(boundOfCompletion('\ud800', MODEL).tokens).toBe(5);
  });
});
