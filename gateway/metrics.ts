// Counters and histograms in Prometheus' text format. Label values come from closed sets (routes, pools of the configuration,
// outcomes), never from requests; a series past the bound is dropped and counted, so that a mistake can't fill memory.

const MAX_SERIES = 2000;
const TTFT_BUCKETS_S = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

type Labels = Readonly<Record<string, string>>;

/** A value as it is at the moment of asking. */
export interface Gauge {
  name: string;
  labels?: Labels;
  value: number;
}

function seriesOf(name: string, labels: Labels): string {
  let inner = '';
  for (const key in labels) inner += `${inner && ','}${key}="${labels[key]?.replace(/[\\"\n]/g, '_')}"`;
  return inner ? `${name}{${inner}}` : name;
}

export class Metrics {
  readonly #counters = new Map<string, number>();
  readonly #ttft = { buckets: TTFT_BUCKETS_S.map(() => 0), sum: 0, count: 0 };
  #dropped = 0;

  /** One answer. `route` is the route's pattern, not the path. */
  answered(route: string, status: number): void {
    this.#add('hearth_gateway_responses_total', { route, status: String(status) }, 1);
  }

  settled(outcome: string, inputTokens: number, cachedTokens: number, outputTokens: number): void {
    this.#add('hearth_gateway_settled_requests_total', { outcome }, 1);
    this.#add('hearth_gateway_input_tokens_total', {}, inputTokens);
    this.#add('hearth_gateway_cached_input_tokens_total', {}, cachedTokens);
    this.#add('hearth_gateway_output_tokens_total', {}, outputTokens);
  }

  refused(reason: string): void {
    this.#add('hearth_gateway_quota_refusals_total', { reason }, 1);
  }

  replayed(): void {
    this.#add('hearth_gateway_idempotent_replays_total', {}, 1);
  }

  poolFailed(pool: string): void {
    this.#add('hearth_gateway_pool_failures_total', { pool }, 1);
  }

  /** A request went on at another pool, or began there anew. */
  rerouted(how: 'resumed' | 'retried'): void {
    this.#add('hearth_gateway_reroutes_total', { how }, 1);
  }

  firstToken(seconds: number): void {
    this.#ttft.sum += seconds;
    this.#ttft.count += 1;
    // From the widest down to the first that is too narrow.
    for (let i = TTFT_BUCKETS_S.length - 1; i >= 0 && seconds <= TTFT_BUCKETS_S[i]!; i--) this.#ttft.buckets[i]! += 1;
  }

  /** All series; `gauges` are read by the caller at this moment. */
  render(gauges: readonly Gauge[]): string {
    const lines = [...this.#counters]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([series, value]) => `${series} ${value}`);
    const ttft = 'hearth_gateway_time_to_first_token_seconds';
    for (const [index, bound] of TTFT_BUCKETS_S.entries())
      lines.push(`${ttft}_bucket{le="${bound}"} ${this.#ttft.buckets[index]}`);
    lines.push(`${ttft}_bucket{le="+Inf"} ${this.#ttft.count}`);
    lines.push(`${ttft}_sum ${this.#ttft.sum}`, `${ttft}_count ${this.#ttft.count}`);
    for (const { name, labels, value } of gauges) lines.push(`${seriesOf(name, labels ?? {})} ${value}`);
    lines.push(`hearth_gateway_metrics_dropped_total ${this.#dropped}`);
    return `${lines.join('\n')}\n`;
  }

  #add(name: string, labels: Labels, amount: number): void {
    const series = seriesOf(name, labels);
    const before = this.#counters.get(series);
    if (before === undefined && this.#counters.size >= MAX_SERIES) this.#dropped += 1;
    else this.#counters.set(series, (before ?? 0) + amount);
  }
}
