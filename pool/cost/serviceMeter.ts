// Counts what a pool serves, for its report of the last hour (wire/service.ts) and for metrics. Counters only grow; once a minute they are
// copied, and the report is the difference to the oldest copy: sixty-one copies of a few hundred numbers per model, whatever is served.

import type { DeviceShare, SequenceUse } from '../../engine/deviceShare.ts';
import { invariant } from '../../engine/invariant.ts';
import { escapeLabel } from '../metrics.ts';
import {
  NANO,
  OUTPUT_BOUNDS,
  PROMPT_BOUNDS,
  type ServedShape,
  type ServicePrice,
  type ServiceReport,
} from '../wire/service.ts';

const SAMPLE_MS = 60_000;
/** With what came since the last: an hour. */
const SAMPLES = 60;

/** Of a shape, in a row. Before all shapes stands the time of all steps. */
const FIELDS = ['sequences', 'prompt_tokens', 'cached_tokens', 'output_tokens', 'prefill_ms', 'decode_ms'] as const;
const BUSY_MS = 0;
const SHAPES_AT = 1;
const COUNTERS = SHAPES_AT + PROMPT_BOUNDS.length * OUTPUT_BOUNDS.length * FIELDS.length;

interface Sample {
  atMs: number;
  /** By engine. */
  counters: ReadonlyMap<string, Float64Array>;
}

export interface ServiceMeterOptions {
  /** Engines of the pool, by the first name of their model. */
  engines: readonly string[];
  price: ServicePrice | null;
  /** Unix milliseconds. */
  now: () => number;
}

export class ServiceMeter {
  readonly #options: ServiceMeterOptions;
  readonly #counters: ReadonlyMap<string, Float64Array>;
  /** The oldest first; never empty. */
  #samples: Sample[];

  constructor(options: ServiceMeterOptions) {
    this.#options = options;
    this.#counters = new Map(options.engines.map((engine) => [engine, new Float64Array(COUNTERS)]));
    this.#samples = [this.#sample()];
  }

  /** What one step did, and which sequences are over with it. */
  step(engine: string, { prefillMs, decodeMs, ended }: DeviceShare & { ended: readonly SequenceUse[] }): void {
    const counters = this.#of(engine);
    counters[BUSY_MS]! += prefillMs + decodeMs;
    for (const use of ended) {
      const at = shapeAt(use.promptTokens, use.outputTokens);
      const values = [1, use.promptTokens, use.cachedTokens, use.outputTokens, use.prefillMs, use.decodeMs];
      for (const [i, value] of values.entries()) counters[at + i]! += value;
    }
  }

  /** To be called now and then; does something once a minute. */
  tick(): void {
    const nowMs = this.#options.now();
    const lastMs = this.#samples.at(-1)!.atMs;
    if (nowMs < lastMs) this.#samples = [this.#sample()]; // the clock was set back: what it measured before has no length
    if (nowMs - lastMs < SAMPLE_MS) return;
    this.#samples.push(this.#sample());
    if (this.#samples.length > SAMPLES) this.#samples.shift();
  }

  report(): ServiceReport {
    const [oldest] = this.#samples;
    invariant(oldest, 'there is a sample from the start');
    return {
      price: this.#options.price,
      window_ms: Math.max(0, this.#options.now() - oldest.atMs),
      models: Array.from(this.#counters, ([model, counters]) => {
        const before = oldest.counters.get(model);
        const since = counters.map((value, i) => value - (before?.[i] ?? 0));
        return { model, busy_ms: rounded(since[BUSY_MS]!), shapes: shapesOf(since) };
      }),
    };
  }

  /** Series by model; counters since the start of the process. */
  metricLines(): string[] {
    const engines = Array.from(this.#counters, ([model, counters]) => ({
      label: `model="${escapeLabel(model)}"`,
      busySeconds: counters[BUSY_MS]! / 1000,
      sum: (field: (typeof FIELDS)[number]) => shapesOf(counters).reduce((total, shape) => total + shape[field], 0),
    }));
    const { price } = this.#options;
    const perHour = price ? [`currency="${price.currency}"} ${price.nano_per_hour / NANO}`] : [];
    return [
      ...family('busy_seconds_total', 'counter', 'Time that the device worked.', engines, (e) => [
        `${e.label}} ${e.busySeconds}`,
      ]),
      ...family('served_seconds_total', 'counter', 'Of it, for sequences that have ended.', engines, (e) => [
        `${e.label},phase="prefill"} ${e.sum('prefill_ms') / 1000}`,
        `${e.label},phase="decode"} ${e.sum('decode_ms') / 1000}`,
      ]),
      ...family('served_tokens_total', 'counter', 'Tokens of sequences that have ended.', engines, (e) => [
        `${e.label},kind="computed"} ${e.sum('prompt_tokens') - e.sum('cached_tokens')}`,
        `${e.label},kind="cached"} ${e.sum('cached_tokens')}`,
        `${e.label},kind="output"} ${e.sum('output_tokens')}`,
      ]),
      ...family('price_per_hour', 'gauge', 'What an hour of this pool costs.', perHour, (line) => [line]),
    ];
  }

  #of(engine: string): Float64Array {
    const counters = this.#counters.get(engine);
    invariant(counters, 'steps are of engines that were named', { engine });
    return counters;
  }

  #sample(): Sample {
    const counters = new Map(Array.from(this.#counters, ([engine, values]) => [engine, values.slice()]));
    return { atMs: this.#options.now(), counters };
  }
}

/** Where a shape's counters begin. */
function shapeAt(promptTokens: number, outputTokens: number): number {
  const index = (bounds: readonly (number | null)[], value: number) =>
    bounds.findIndex((bound) => bound === null || value < bound);
  const shape = index(PROMPT_BOUNDS, promptTokens) * OUTPUT_BOUNDS.length + index(OUTPUT_BOUNDS, outputTokens);
  return SHAPES_AT + shape * FIELDS.length;
}

/** Those that were seen. */
function shapesOf(counters: Float64Array): ServedShape[] {
  return PROMPT_BOUNDS.flatMap((prompt_below, p) =>
    OUTPUT_BOUNDS.flatMap((output_below, o) => {
      const at = SHAPES_AT + (p * OUTPUT_BOUNDS.length + o) * FIELDS.length;
      const [sequences = 0, prompt = 0, cached = 0, output = 0, prefill = 0, decode = 0] = counters.subarray(at);
      if (sequences === 0) return [];
      return {
        ...{ prompt_below, output_below, sequences },
        ...{ prompt_tokens: prompt, cached_tokens: cached, output_tokens: output },
        ...{ prefill_ms: rounded(prefill), decode_ms: rounded(decode) },
      };
    }),
  );
}

function family<T>(name: string, type: string, help: string, list: readonly T[], of: (one: T) => string[]): string[] {
  const full = `hearth_pool_${name}`;
  const samples = list.flatMap(of).map((sample) => `${full}{${sample}`);
  return samples.length === 0 ? [] : [`# HELP ${full} ${help}`, `# TYPE ${full} ${type}`, ...samples];
}

/** Microseconds are enough, and a sum of shares is a long fraction. */
function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
