// What a limit is: at most so much of one metric in one window, for a whole tenant or one key, over all models or named ones. Every kind
// of limit is this one kind of rule, so that one decision and one set of meters serve them all.
//
//   metric      requests │ tokens │ spend (nano-dollars) │ concurrent
//   window      minute: sliding, any 60 s │ day, month: calendar of a zone │ lifetime │ none: what runs now (concurrent alone)
//   booked      at reservation as held, an upper bound; at settlement as what it was
import type { Price } from '../prices/price.ts';

export const METRICS = ['requests', 'tokens', 'spend', 'concurrent'] as const;
export type Metric = (typeof METRICS)[number];
export const LIMIT_WINDOWS = ['minute', 'day', 'month', 'lifetime', 'none'] as const;
export type LimitWindow = (typeof LIMIT_WINDOWS)[number];

export interface LimitRule {
  metric: Metric;
  window: LimitWindow;
  /** Requests, tokens, nano-dollars, or requests at once. */
  limit: number;
  /** null: all models together. */
  models: readonly string[] | null;
  /** IANA zone whose calendar a day or month follows. */
  timeZone: string;
}

/** A rule as the ledger keeps it. */
export interface KeptRule extends LimitRule {
  /** The group that it was put with, and is replaced with: the route that owns it. */
  set: string;
  /** null: the whole tenant. */
  keyId: string | null;
}

/** A rule in the window that is open now. */
export interface LimitState extends KeptRule {
  settled: number;
  held: number;
  /** Unix milliseconds when nothing of now counts any more; null: never, or when requests end. */
  resetsAtMs: number | null;
}

/** How much of a metric a request takes: so much by itself, and by token. */
export interface Units {
  request: number;
  inputToken: number;
  outputToken: number;
}

export function unitsOf(metric: Metric, price: Price | null): Units {
  if (metric === 'tokens') return { request: 0, inputToken: 1, outputToken: 1 };
  if (metric === 'spend')
    return { request: 0, inputToken: price?.inputNanoUsd ?? 0, outputToken: price?.outputNanoUsd ?? 0 };
  return { request: 1, inputToken: 0, outputToken: 0 };
}

export function amountOf(units: Units, inputTokens: number, outputTokens: number): number {
  return units.request + units.inputToken * inputTokens + units.outputToken * outputTokens;
}

export function roomOf({ limit, settled, held }: Pick<LimitState, 'limit' | 'settled' | 'held'>): number {
  return Math.max(0, limit - settled - held);
}

/** The one with the least room; undefined without any. */
export function tightest<M extends Pick<LimitState, 'limit' | 'settled' | 'held'>>(
  meters: readonly M[],
): M | undefined {
  return meters.reduce<M | undefined>((least, m) => (least && roomOf(least) <= roomOf(m) ? least : m), undefined);
}

/** Frees itself while the caller waits: the oldest leaves a minute, a request ends. */
export function passes({ window }: Pick<LimitRule, 'window'>): boolean {
  return window === 'minute' || window === 'none';
}

export function countsFor({ models }: Pick<LimitRule, 'models'>, model: string): boolean {
  return models === null || models.includes(model);
}

/** Of a request with this key and this model. */
export function countsUnder(rule: Pick<KeptRule, 'keyId' | 'models'>, by: { keyId: string; model: string }): boolean {
  return (rule.keyId === null || rule.keyId === by.keyId) && countsFor(rule, by.model);
}
