// Costs are divided by the rule and nothing else: they add up to the hour's price, idle time is told apart, and a worked example can be
// recomputed by hand.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nanoOf, type ServedShape, type ServiceReport } from '../../pool/wire/service.ts';
import { poolCost } from './cost.ts';

const MINUTE_MS = 60_000;
const PRICE = { version: 'v1', inputNanoUsd: 100, cachedInputNanoUsd: 50, outputNanoUsd: 400 };

const shape = (over: Partial<ServedShape> = {}): ServedShape => ({
  ...{ prompt_below: 256, output_below: 64, sequences: 1, prompt_tokens: 0, cached_tokens: 0, output_tokens: 0 },
  ...{ prefill_ms: 0, decode_ms: 0, ...over },
});

/** An hour at 3.60: a millisecond costs a thousandth of a thousandth. 15 minutes of prefill, 15 of decode, half an hour idle. */
const HALF_BUSY: ServiceReport = {
  price: { nano_per_hour: nanoOf('3.60'), currency: 'USD' },
  window_ms: 60 * MINUTE_MS,
  models: [
    {
      model: 'm',
      busy_ms: 30 * MINUTE_MS,
      shapes: [
        shape({ prompt_tokens: 2_000_000, cached_tokens: 1_000_000, prefill_ms: 15 * MINUTE_MS }),
        shape({ output_below: null, output_tokens: 500_000, decode_ms: 15 * MINUTE_MS }),
      ],
    },
  ],
};

describe('the cost of a pool', () => {
  it('is the example of docs/quotas-and-billing.md', () => {
    expect(poolCost(HALF_BUSY, new Map([['m', PRICE]]))).toMatchObject({
      ...{ currency: 'USD', per_hour: '3.6', window_seconds: 3600, busy_share: 0.5, spent: '3.6', idle: '1.8' },
      models: [
        {
          ...{ model: 'm', input_tokens: 2_000_000, cached_input_tokens: 1_000_000, output_tokens: 500_000 },
          at_work: { computed_input: '0.9', input: '0.45', output: '1.8' },
          cost: { computed_input: '1.8', input: '0.9', output: '3.6' },
          spent: '3.6',
          // 10⁶ · 100 + 10⁶ · 50 + 5 · 10⁵ · 400 nano-dollars.
          charged: { computed_input: '0.1', cached_input: '0.05', output: '0.4', earned: '0.35' },
          shapes: [{ cost: { output: null } }, { output_below: null, cost: { input: null, output: '3.6' } }],
        },
      ],
    });
  });

  it('of all models together is what was spent, and idle time is spread as work is', () => {
    const served = fc.record({
      prompt_tokens: fc.nat(1e9),
      output_tokens: fc.nat(1e9),
      prefill_ms: fc.double({ min: 0, max: 1e5, noNaN: true }),
      decode_ms: fc.double({ min: 0.001, max: 1e5, noNaN: true }),
    });
    fc.assert(
      fc.property(
        fc.array(fc.array(served, { minLength: 1, maxLength: 16 }), { minLength: 1, maxLength: 16 }),
        fc.nat(999_999_999_999_999),
        (models, nano) => {
          const cost = poolCost(
            {
              price: { nano_per_hour: nano, currency: 'EUR' },
              window_ms: 16 * 16 * 2e5,
              models: models.map((shapes, i) => ({
                ...{ model: `m${i}`, busy_ms: 0, shapes: shapes.map((one) => shape(one)) },
              })),
            },
            new Map(),
          );
          const total = cost?.models.reduce((sum, { spent }) => sum + Number(spent), 0) ?? 0;
          expect(Math.abs(total - Number(cost?.spent))).toBeLessThan(1e-6 + Number(cost?.spent) * 1e-9);
          expect(cost?.models.every(({ charged }) => charged === null)).toBe(true); // prices are in USD
        },
      ),
    );
  });

  it('is all idle where nothing was served, and nothing where nobody has said a price', () => {
    const idle = { ...HALF_BUSY, models: [{ model: 'm', busy_ms: 0, shapes: [] }] };
    expect(poolCost(idle, new Map())).toMatchObject({
      ...{ busy_share: 0, spent: '3.6', idle: '3.6' },
      models: [{ cost: { input: null, output: null }, at_work: { output: null }, spent: '0' }],
    });
    expect(poolCost({ ...HALF_BUSY, price: null }, new Map())).toBeNull();
    expect(poolCost(undefined, new Map())).toBeNull();
    expect(poolCost({ ...HALF_BUSY, window_ms: 0 }, new Map())?.models[0]?.cost.output).toBe('1.8');
  });
});
