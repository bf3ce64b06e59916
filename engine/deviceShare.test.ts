// The device's time is divided without rest: over sequences, over prefill and decode, and over engines that share the device.
import { describe, expect, it } from 'vitest';
import { cacheOf, EngineHarness, request } from '../test/support/engineHarness.ts';
import type { PagedRunnerOptions } from '../test/support/pagedRunner.ts';
import { type DeviceShare, DeviceTurns } from './deviceShare.ts';

/** What every step takes. */
const STEP_MS = 12;
const prompt = (length: number, first = 1) => Array.from({ length }, (_, i) => (first + i * 5) % 64);

it('turns begin when a step is submitted and the one before has ended, whichever engine it is of', () => {
  const turns = new DeviceTurns();
  expect(turns.ended(100, 110)).toBe(10);
  expect(turns.ended(105, 130), 'submitted under the one before').toBe(20);
  expect(turns.ended(200, 210), 'idle between').toBe(10);
  expect(turns.ended(205, 207), 'a clock that is set back').toBe(0);
  expect(turns.ended(207, 217)).toBe(10);
});

const sum = (uses: readonly DeviceShare[]) => uses.reduce((total, use) => total + use.prefillMs + use.decodeMs, 0);

function start(options: PagedRunnerOptions = {}, limits: { maxRunning?: number } = {}): EngineHarness {
  const during = () => {
    harness.nowMs += STEP_MS;
  };
  const harness: EngineHarness = new EngineHarness({ maxStepTokens: 16, ...options, during }, limits);
  return harness;
}
const endedOf = ({ reports }: EngineHarness) =>
  new Map(reports.flatMap(({ ended }) => ended.map((use) => [use.id, use] as const)));

describe.each([1, 2])('with %i steps in flight, what sequences were served', (stepsInFlight) => {
  it('adds up to what the device worked, and that is no more than the clock says', async () => {
    const harness = start({ stepsInFlight });
    for (const [id, length] of [
      ['long', 40],
      ['short', 4],
      ['other', 21],
    ] as const)
      harness.engine.submit(request(id, prompt(length, length), { maxTokens: 5, cache: cacheOf(id) }));
    await harness.finish();
    const ended = [...endedOf(harness).values()];
    expect(ended.map(({ id, promptTokens, outputTokens }) => [id, promptTokens, outputTokens]).sort()).toEqual([
      ...[
        ['long', 40, 5],
        ['other', 21, 5],
        ['short', 4, 5],
      ],
    ]);
    expect(sum(ended)).toBeCloseTo(sum(harness.reports), 9);
    expect(sum(ended)).toBeGreaterThan(0);
    expect(sum(ended)).toBeLessThanOrEqual(harness.nowMs);
    for (const use of ended) expect(Math.min(use.prefillMs, use.decodeMs)).toBeGreaterThan(0);
  });
});

it('a step is divided by tokens: a prompt of 15 beside one decode has fifteen sixteenths of it, as prefill', async () => {
  const harness = start();
  harness.engine.submit(request('stream', prompt(3), { maxTokens: 3, cache: null }));
  await harness.engine.step();
  harness.engine.submit(request('prompt', prompt(15, 9), { maxTokens: 1, cache: null }));
  await harness.finish();
  const uses = endedOf(harness);
  expect(uses.get('prompt')).toMatchObject({ prefillMs: (STEP_MS * 15) / 16, decodeMs: 0 });
  expect(uses.get('stream')).toMatchObject({ prefillMs: STEP_MS, decodeMs: STEP_MS / 16 + STEP_MS });
});

it('what a cache had took no time; who leaves is told with what was computed for him, who was never begun is not', async () => {
  const harness = start({}, { maxRunning: 1 });
  harness.engine.submit(request('cold', prompt(33), { maxTokens: 1 }));
  await harness.finish();
  harness.engine.submit(request('warm', prompt(33), { maxTokens: 40 }));
  harness.engine.submit(request('waits', prompt(20, 7)));
  for (let i = 0; i < 3; i++) await harness.engine.step();
  for (const id of ['warm', 'waits']) harness.engine.cancel(id);
  await harness.finish();
  const uses = endedOf(harness);
  expect(uses.get('cold')).toMatchObject({ cachedTokens: 0, prefillMs: 3 * STEP_MS, decodeMs: 0 });
  expect(uses.get('warm')).toMatchObject({ promptTokens: 33, cachedTokens: 32, prefillMs: STEP_MS });
  expect(uses.has('waits')).toBe(false);
});
