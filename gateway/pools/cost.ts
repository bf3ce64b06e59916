// What a pool's tokens cost its operator, from what the pool told of its last hour, beside what tenants are charged for them. Pure, in whole
// nano-units of the pool's currency until it is written.
//
// The rule, which docs/quotas-and-billing.md has in words: an hour's price is divided by the device's time. A token's cost at work is that of the time
// that tokens of its kind took: prefill for input, decode for output. A cached token took none. Time that was idle, or worked for nobody,
// is spread over all tokens as their time at work is: `cost` has it, `at_work` has not, so that an idle pool and a slow one can be told apart.
//
//   hour × price ──▶ idle and unfinished ─────────────┐ in proportion to time at work
//                └─▶ device time of ended sequences ──┴▶ model ─▶ prefill ÷ computed input      decode ÷ output
import type { ServedShape, ServiceReport } from '../../pool/wire/service.ts';
import { decimalUsd, type Price } from '../prices/price.ts';

const MILLION = 1_000_000;
const MS_PER_HOUR = 3_600_000;

/** Decimal amounts of the pool's currency per million tokens; null: there was no such token. */
export interface TokenCost {
  /** Of prompt tokens that were computed. */
  computed_input: string | null;
  /** Of all prompt tokens: those from a cache cost nothing here. */
  input: string | null;
  output: string | null;
}

export interface TrafficCost {
  sequences: number;
  input_tokens: number;
  cached_input_tokens: number;
  output_tokens: number;
  /** Idle time included. null: nothing was worked. */
  cost: TokenCost;
  at_work: TokenCost;
}

export interface ModelCost extends TrafficCost {
  model: string;
  /** What its tokens cost together, idle time included. */
  spent: string;
  /** What they bring at the prices in force; null: the pool's currency is not that of prices, or there is none. */
  charged: { computed_input: string; cached_input: string; output: string; earned: string } | null;
  shapes: (TrafficCost & { prompt_below: number | null; output_below: number | null })[];
}

export interface PoolCost {
  currency: string;
  per_hour: string;
  window_seconds: number;
  /** Share of the window that the device worked. */
  busy_share: number;
  /** Of the window; and the part of it that was idle, or worked for what has not ended. */
  spent: string;
  idle: string;
  models: ModelCost[];
}

/** `prices`: in force now, by model. null: the operator has not said what the pool costs, or the pool can't tell what it did. */
export function poolCost(
  report: ServiceReport | undefined,
  prices: ReadonlyMap<string, Price | null>,
): PoolCost | null {
  if (!report?.price) return null;
  const { price, window_ms: windowMs, models } = report;
  const all = sumOf(models.flatMap(({ shapes }) => shapes));
  const workMs = all.prefill_ms + all.decode_ms;
  const busyMs = models.reduce((sum, { busy_ms }) => sum + busy_ms, 0);
  // What is spread: a clock that was set may make the window shorter than the work in it.
  const spread = workMs > 0 ? Math.max(1, windowMs / workMs) : 0;
  const nanoOf = (ms: number) => (price.nano_per_hour * ms) / MS_PER_HOUR;
  const traffic = (sum: Sum) => trafficCost(sum, nanoOf, spread);
  return {
    currency: price.currency,
    per_hour: decimal(price.nano_per_hour),
    window_seconds: Math.round(windowMs / 1000),
    busy_share: windowMs > 0 ? Math.min(1, busyMs / windowMs) : 0,
    spent: decimal(nanoOf(windowMs)),
    idle: decimal(nanoOf(Math.max(0, windowMs - workMs))),
    models: models.map(({ model, shapes }) => {
      const sum = sumOf(shapes);
      return {
        model,
        ...traffic(sum),
        spent: decimal(nanoOf(sum.prefill_ms + sum.decode_ms) * spread),
        charged: price.currency === 'USD' ? charged(prices.get(model) ?? null, sum) : null,
        shapes: shapes.map((shape) => ({
          ...{ prompt_below: shape.prompt_below, output_below: shape.output_below },
          ...traffic(shape),
        })),
      };
    }),
  };
}

type Sum = Omit<ServedShape, 'prompt_below' | 'output_below'>;

function sumOf(shapes: readonly Sum[]): Sum {
  const sum = { sequences: 0, prompt_tokens: 0, cached_tokens: 0, output_tokens: 0, prefill_ms: 0, decode_ms: 0 };
  for (const shape of shapes) for (const key of Object.keys(sum) as (keyof Sum)[]) sum[key] += shape[key];
  return sum;
}

function trafficCost(sum: Sum, nanoOf: (ms: number) => number, spread: number): TrafficCost {
  const cost = (factor: number): TokenCost => ({
    computed_input: perMillion(nanoOf(sum.prefill_ms) * factor, sum.prompt_tokens - sum.cached_tokens),
    input: perMillion(nanoOf(sum.prefill_ms) * factor, sum.prompt_tokens),
    output: perMillion(nanoOf(sum.decode_ms) * factor, sum.output_tokens),
  });
  return {
    sequences: sum.sequences,
    input_tokens: sum.prompt_tokens,
    cached_input_tokens: sum.cached_tokens,
    output_tokens: sum.output_tokens,
    cost: cost(spread),
    at_work: cost(1),
  };
}

/** Nano-dollars per token are, a million times, milli-dollars per million; what is earned is exact. */
function charged(price: Price | null, sum: Sum): ModelCost['charged'] {
  if (!price) return null;
  const { inputNanoUsd, cachedInputNanoUsd, outputNanoUsd } = price;
  const computed = sum.prompt_tokens - sum.cached_tokens;
  const earned =
    BigInt(computed) * BigInt(inputNanoUsd) +
    BigInt(sum.cached_tokens) * BigInt(cachedInputNanoUsd) +
    BigInt(sum.output_tokens) * BigInt(outputNanoUsd);
  return {
    computed_input: decimal(inputNanoUsd * MILLION),
    cached_input: decimal(cachedInputNanoUsd * MILLION),
    output: decimal(outputNanoUsd * MILLION),
    earned: decimalUsd(earned),
  };
}

function perMillion(nano: number, tokens: number): string | null {
  return tokens > 0 ? decimal((nano * MILLION) / tokens) : null;
}

/** Of nano-units, to the whole one. */
function decimal(nano: number): string {
  return decimalUsd(BigInt(Math.round(nano)));
}

/** The numbers of it that metrics have. */
export function costFigures({ models }: PoolCost): { model: string; kind: keyof TokenCost; value: number }[] {
  const kinds = ['computed_input', 'input', 'output'] as const;
  return models.flatMap(({ model, cost }) =>
    kinds.flatMap((kind) => (cost[kind] === null ? [] : { model, kind, value: Number(cost[kind]) })),
  );
}
