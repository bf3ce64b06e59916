// What tokens cost, in whole nano-dollars (10⁻⁹ USD) per token: 1 nano-dollar per token is 0.001 USD per million. Never a fraction, never
// a float: a bill adds up to the nano-dollar, whoever adds it. Pure.
import { invariant } from '../invariant.ts';

/** Dearest token: 0.01 USD. 9 · 10⁸ of them still make a safe integer, more than any request can ask for. */
export const MAX_NANO_USD_PER_TOKEN = 10_000_000;
/** Greatest sum that a window counts, 9 million USD: below 2⁵³ with room for the requests that run. */
export const MAX_NANO_USD = 9_000_000_000_000_000;
export const NANO_USD_PER_USD = 1_000_000_000;
export const NANO_USD_PER_CENT = 10_000_000;

/** One version of a model's price. It holds from its time on until the next, and is never changed. */
export interface Price {
  version: string;
  inputNanoUsd: number;
  /** At most inputNanoUsd, so that the input price is a bound. */
  cachedInputNanoUsd: number;
  outputNanoUsd: number;
}

export interface Tokens {
  inputTokens: number;
  /** Part of inputTokens. */
  cachedInputTokens: number;
  outputTokens: number;
}

/** What is billed apart: each token of a request is counted by exactly one meter. */
export const BILLED_METERS = ['input', 'cached_input', 'output'] as const;
export type BilledMeter = (typeof BILLED_METERS)[number];

/** Tokens of each meter: `input` is what no cache had. */
export function meteredTokens({ inputTokens, cachedInputTokens, outputTokens }: Tokens): Record<BilledMeter, number> {
  return { input: inputTokens - cachedInputTokens, cached_input: cachedInputTokens, output: outputTokens };
}

export function unitPrices(price: Price | null): Record<BilledMeter, number> {
  return {
    input: price?.inputNanoUsd ?? 0,
    cached_input: price?.cachedInputNanoUsd ?? 0,
    output: price?.outputNanoUsd ?? 0,
  };
}

/** In nano-dollars; a model without a price costs nothing. */
export function costOf(price: Price | null, tokens: Tokens): number {
  const unit = unitPrices(price);
  const metered = meteredTokens(tokens);
  const cost = BILLED_METERS.reduce((sum, meter) => sum + metered[meter] * unit[meter], 0);
  invariant(Number.isSafeInteger(cost) && cost >= 0, 'a cost is whole nano-dollars', { ...tokens, ...unit });
  return cost;
}

/** Exact decimal dollars, such as "0.000001234"; "0" for nothing. */
export function decimalUsd(nanoUsd: bigint): string {
  const sign = nanoUsd < 0n ? '-' : '';
  const digits = (nanoUsd < 0n ? -nanoUsd : nanoUsd).toString().padStart(10, '0');
  const fraction = digits.slice(-9).replace(/0+$/, '');
  return `${sign}${digits.slice(0, -9)}${fraction && `.${fraction}`}`;
}
