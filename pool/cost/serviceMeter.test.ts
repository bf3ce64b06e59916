// What was served in the last hour, by a clock that the test moves.
import { expect, it } from 'vitest';
import { MAX_HEARTBEAT_BYTES } from '../wire/heartbeat.ts';
import { nanoOf, serviceReport } from '../wire/service.ts';
import { ServiceMeter } from './serviceMeter.ts';

const MINUTE_MS = 60_000;
const PRICE = { nano_per_hour: nanoOf('2.50'), currency: 'EUR' };

function rig(engines = ['m']) {
  const clock = { nowMs: 1_000_000 };
  const meter = new ServiceMeter({ engines, price: PRICE, now: () => clock.nowMs });
  /** As a pool does, several times a second. */
  const pass = (ms: number) => {
    for (const end = clock.nowMs + ms; clock.nowMs < end; ) {
      clock.nowMs += Math.min(10_000, end - clock.nowMs);
      meter.tick();
    }
  };
  return { clock, meter, pass };
}
const use = (promptTokens: number, outputTokens: number, over: object = {}) => ({
  ...{ id: 'r', promptTokens, cachedTokens: 0, outputTokens, prefillMs: promptTokens, decodeMs: outputTokens * 2 },
  ...over,
});

it('counts by shape, beside the time of all steps, and only what was in the last hour', () => {
  const { meter, pass } = rig();
  meter.step('m', { prefillMs: 100, decodeMs: 128, ended: [use(100, 64, { cachedTokens: 16 })] });
  meter.step('m', { prefillMs: 7, decodeMs: 3, ended: [] });
  pass(10 * MINUTE_MS);
  meter.step('m', { prefillMs: 255, decodeMs: 126, ended: [use(255, 63), use(256, 63), use(100_000, 5000)] });
  const report = meter.report();
  expect(serviceReport.parse(report)).toEqual(report);
  expect(report).toMatchObject({ price: PRICE, window_ms: 10 * MINUTE_MS, models: [{ model: 'm', busy_ms: 619 }] });
  expect(report.models[0]?.shapes).toEqual([
    {
      prompt_below: 256,
      output_below: 64,
      sequences: 1,
      prompt_tokens: 255,
      cached_tokens: 0,
      output_tokens: 63,
      prefill_ms: 255,
      decode_ms: 126,
    },
    {
      prompt_below: 256,
      output_below: 256,
      sequences: 1,
      prompt_tokens: 100,
      cached_tokens: 16,
      output_tokens: 64,
      prefill_ms: 100,
      decode_ms: 128,
    },
    {
      prompt_below: 2048,
      output_below: 64,
      sequences: 1,
      prompt_tokens: 256,
      cached_tokens: 0,
      output_tokens: 63,
      prefill_ms: 256,
      decode_ms: 126,
    },
    expect.objectContaining({ prompt_below: null, output_below: null, output_tokens: 5000 }),
  ]);

  pass(51 * MINUTE_MS); // the first ones are older than an hour now
  const later = meter.report();
  expect(later.window_ms).toBeGreaterThanOrEqual(59 * MINUTE_MS);
  expect(later.window_ms).toBeLessThanOrEqual(60 * MINUTE_MS);
  expect(later.models[0]).toMatchObject({ busy_ms: 381 });
  expect(later.models[0]?.shapes.map((shape) => shape.prompt_tokens)).toEqual([255, 256, 100_000]);
  pass(60 * MINUTE_MS);
  expect(meter.report().models).toEqual([{ model: 'm', busy_ms: 0, shapes: [] }]);
});

it('a clock that is set back begins a new window, and counters of metrics go on', () => {
  const { clock, meter, pass } = rig();
  meter.step('m', { prefillMs: 1000, decodeMs: 0, ended: [use(10, 10)] });
  pass(5 * MINUTE_MS);
  clock.nowMs -= 3 * MINUTE_MS;
  meter.tick();
  expect(meter.report()).toMatchObject({ window_ms: 0, models: [{ busy_ms: 0, shapes: [] }] });
  pass(MINUTE_MS);
  expect(meter.report()).toMatchObject({ window_ms: MINUTE_MS });
  const lines = meter.metricLines();
  expect(lines).toContain('hearth_pool_busy_seconds_total{model="m"} 1');
  expect(lines).toContain('hearth_pool_served_seconds_total{model="m",phase="decode"} 0.02');
  expect(lines).toContain('hearth_pool_served_tokens_total{model="m",kind="output"} 10');
  expect(lines).toContain('hearth_pool_price_per_hour{currency="EUR"} 2.5');
});

it('a report of as many models and shapes as there can be fits a heartbeat', () => {
  const engines = Array.from({ length: 16 }, (_, i) => `a-model-with-a-name-of-usual-length-${i}`);
  const { meter } = rig(engines);
  for (const engine of engines)
    for (const prompt of [255, 2047, 16_383, 20_000])
      for (const output of [63, 255, 1023, 5000]) {
        const served = use(prompt, output, { prefillMs: 123_456.789_123, decodeMs: 9_876_543.219_876 });
        meter.step(engine, { prefillMs: 1e6 / 3, decodeMs: 0, ended: Array.from({ length: 1000 }, () => served) });
      }
  const text = JSON.stringify(meter.report());
  expect(text.length).toBeGreaterThan(30_000);
  expect(text.length).toBeLessThan(MAX_HEARTBEAT_BYTES * 0.9);
});

it.each([
  ['2.50', 2_500_000_000],
  ['0.000000001', 1],
  ['0.1', 100_000_000],
  ['999999.999999999', 999_999_999_999_999],
])('%s an hour is %i nano-units, exactly', (decimal, nano) => {
  expect(nanoOf(decimal)).toBe(nano);
});
