// The pool's counters and histograms, and their Prometheus text. Every label has a closed set of values, written down here, so that
// no request can make the number of series grow.
import { invariant } from '../engine/invariant.ts';

/** Prometheus exposition format, section "text-based format". */
export const METRICS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

export class Counter {
  readonly #name: string;
  readonly #help: string;
  readonly #label: string | null;
  readonly #values: Map<string, number>;

  /** With a label, `values` is the closed set; anything else counts as `other`. */
  constructor(name: string, help: string, label: string | null = null, values: readonly string[] = []) {
    this.#name = name;
    this.#help = help;
    this.#label = label;
    this.#values = new Map((label === null ? [''] : [...values, 'other']).map((value) => [value, 0]));
  }

  add(amount: number, value = ''): void {
    invariant(amount >= 0, 'a counter only grows', { amount });
    const slot = this.#values.has(value) ? value : 'other';
    this.#values.set(slot, (this.#values.get(slot) ?? 0) + amount);
  }

  value(value = ''): number {
    return this.#values.get(value) ?? 0;
  }

  lines(): string[] {
    const head = [`# HELP ${this.#name} ${this.#help}`, `# TYPE ${this.#name} counter`];
    const samples = [...this.#values].map(([value, total]) =>
      this.#label === null ? `${this.#name} ${total}` : `${this.#name}{${this.#label}="${value}"} ${total}`,
    );
    return [...head, ...samples];
  }
}

export class Histogram {
  readonly #name: string;
  readonly #help: string;
  readonly #bounds: readonly number[];
  readonly #counts: number[];
  #sum = 0;

  /** `bounds`: upper bounds of the buckets, ascending; +Inf is added. */
  constructor(name: string, help: string, bounds: readonly number[]) {
    this.#name = name;
    this.#help = help;
    this.#bounds = bounds;
    this.#counts = Array.from({ length: bounds.length + 1 }, () => 0);
  }

  observe(value: number): void {
    const at = this.#bounds.findIndex((bound) => value <= bound);
    this.#counts[at === -1 ? this.#bounds.length : at]! += 1;
    this.#sum += value;
  }

  lines(): string[] {
    let cumulative = 0;
    const buckets = [...this.#bounds, Number.POSITIVE_INFINITY].map((bound, i) => {
      cumulative += this.#counts[i] ?? 0;
      return `${this.#name}_bucket{le="${bound === Number.POSITIVE_INFINITY ? '+Inf' : bound}"} ${cumulative}`;
    });
    return [
      `# HELP ${this.#name} ${this.#help}`,
      `# TYPE ${this.#name} histogram`,
      ...buckets,
      `${this.#name}_sum ${this.#sum}`,
      `${this.#name}_count ${cumulative}`,
    ];
  }
}

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

const STEP_TOKENS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192];

const REFUSAL_CODES = [
  'invalid_signature',
  'request_too_large',
  'unsupported_parameter',
  'context_length_exceeded',
  'hold_too_small',
  'model_not_found',
  'not_found',
  'duplicate_request',
  'fingerprint_mismatch',
  'overloaded',
  'no_pool_ready',
  'wrong_state',
  'deadline_exceeded',
  'internal_error',
  'status_400',
] as const;

const OUTCOMES = ['completed', 'cancelled', 'failed'] as const;

export class PoolMetrics {
  readonly promptTokens = new Counter('hearth_pool_prompt_tokens_total', 'Prompt tokens of accepted requests.');
  readonly cachedTokens = new Counter(
    'hearth_pool_cached_tokens_total',
    'Prompt tokens answered from the prefix cache.',
  );
  readonly outputTokens = new Counter('hearth_pool_output_tokens_total', 'Output positions released.');
  readonly requests = new Counter(
    'hearth_pool_requests_total',
    'Requests that ended, by outcome.',
    'outcome',
    OUTCOMES,
  );
  readonly resumed = new Counter('hearth_pool_resumed_requests_total', 'Accepted requests that had begun before.');
  readonly refusals = new Counter('hearth_pool_refusals_total', 'Requests refused, by code.', 'code', REFUSAL_CODES);
  readonly stepSeconds = new Histogram('hearth_pool_step_seconds', 'Duration of engine steps.', SECONDS);
  readonly stepTokens = new Histogram('hearth_pool_step_tokens', 'Tokens computed in one step.', STEP_TOKENS);
  readonly ttftSeconds = new Histogram(
    'hearth_pool_ttft_seconds',
    'From acceptance to the first output token.',
    SECONDS,
  );
  readonly sleeps = new Counter('hearth_pool_sleeps_total', 'Times that an engine gave its device memory back.');
  readonly wakeSeconds = new Histogram('hearth_pool_wake_seconds', 'From asleep to a real token.', SECONDS);

  /** All series; `engineLines`: what the engines tell. */
  render(engineLines: readonly string[]): string {
    const own = [
      this.promptTokens,
      this.cachedTokens,
      this.outputTokens,
      this.requests,
      this.resumed,
      this.refusals,
      this.stepSeconds,
      this.stepTokens,
      this.ttftSeconds,
      this.sleeps,
      this.wakeSeconds,
    ].flatMap((metric) => metric.lines());
    return `${[...own, ...engineLines].join('\n')}\n`;
  }
}

export function escapeLabel(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
