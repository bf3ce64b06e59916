// A pool whose engine is a foreign server, as its HTTP side sees it: the models that are there, what is running, how busy the server says
// that it is. To the gateway it is a pool like any other, but that nobody else can go on with its answers: its fingerprint is its own.
import { randomBytes } from 'node:crypto';
import { Arrivals } from '../arrivals.ts';
import { Attendance } from '../attendance.ts';
import type { Identity } from '../authenticate.ts';
import { notFound, poolStopping } from '../errors.ts';
import type { Journal } from '../journal.ts';
import { lifecycleMetricLines } from '../lifecycle/metricLines.ts';
import { errorText, type Log } from '../log.ts';
import type { PoolMetrics } from '../metrics.ts';
import { NonceMemory } from '../nonces.ts';
import type { PoolStatus } from '../wire/events.ts';
import { distanceToWarm, mayBecome } from '../wire/states.ts';
import { engineAbsent, type UpstreamLife } from './life.ts';
import type { Figures, Questions } from './questions.ts';
import type { UpstreamRequests } from './requests.ts';
import type { UpstreamModel, UpstreamSettings } from './translate.ts';

export interface UpstreamPoolParts {
  identity: Identity;
  settings: UpstreamSettings;
  template: { tokensPerMessage: number; tokensPerPrompt: number };
  life: UpstreamLife;
  requests: UpstreamRequests;
  questions: Questions;
  journal: Journal;
  metrics: PoolMetrics;
  maxBodyBytes: number;
  /** A salt of the prefix cache that nobody has. */
  drawSalt: () => string;
  now: () => number;
  log: Log;
}

export class UpstreamPool {
  readonly parts: UpstreamPoolParts;
  readonly nonces = new NonceMemory();
  readonly attendance = new Attendance();
  readonly arrivals: Arrivals;
  /** Of this process alone: what another computes has other bits, for all that anybody knows. */
  readonly #fingerprint = `fp_upstream_${randomBytes(8).toString('hex')}`;
  /** null: it tells none, or not now. */
  #figures: Figures | null = null;
  #figuresFailed = '';
  /** Digest of the public prefixes that the gateway has pushed. Nothing of them can be declared there. */
  publicPrefixes: string | null = null;

  constructor(parts: UpstreamPoolParts) {
    this.parts = parts;
    this.arrivals = new Arrivals(parts.identity.poolId, parts.now);
  }

  /** Throws PoolError (404, or 503 before anything is known of it). */
  model(id: string): UpstreamModel {
    const { life } = this.parts;
    const model = life.models.find((one) => one.id === id);
    if (model) return model;
    throw life.has(id)
      ? engineAbsent()
      : notFound(`The model '${id}' is not served by this pool.`, 'model_not_found', 'model');
  }

  /** Takes requests, and can account for what it releases. */
  get ready(): boolean {
    return distanceToWarm(this.parts.life.state) !== null && this.parts.journal.healthy;
  }

  /** Refuses new requests; running ones go on. Can't be undone. */
  drain(): void {
    const { life, requests, log } = this.parts;
    if (!mayBecome(life.state, 'draining')) return;
    life.drain();
    requests.close(poolStopping('This pool is draining; ask another.'));
    log('info', 'draining', { running: requests.count });
  }

  /** Asks the server how busy it is. Never rejects. */
  async refreshFigures(): Promise<void> {
    const { questions, settings, log } = this.parts;
    if (!settings.make.figures) return;
    try {
      this.#figures = await questions.figures(settings.make.figures);
      this.#figuresFailed = '';
    } catch (error) {
      this.#figures = null;
      const reason = errorText(error);
      if (this.#figuresFailed !== reason) log('info', 'upstream_tells_no_figures', { reason });
      this.#figuresFailed = reason;
    }
  }

  async metricsText(): Promise<string> {
    const { metrics, life } = this.parts;
    const { running, waiting, blocksTotal, blocksFree } = this.#figures ?? {};
    const told = { running, waiting, blocks_total: blocksTotal, blocks_free: blocksFree };
    const lines = Object.entries(told).flatMap(([name, value]) =>
      value === undefined ? [] : `hearth_pool_upstream{figure="${name}"} ${value}`,
    );
    const help = '# HELP hearth_pool_upstream What the server behind this pool tells of itself.';
    return metrics.render([help, '# TYPE hearth_pool_upstream gauge', ...lines, ...lifecycleMetricLines(life.figures)]);
  }

  status(): PoolStatus {
    const { identity, life, requests, settings, template } = this.parts;
    return {
      pool_id: identity.poolId,
      started_at_ms: identity.startedAtMs,
      state: life.state,
      models: life.models.map(({ id, contextLength }) => ({
        id,
        created: Math.floor(identity.startedAtMs / 1000),
        context_length: contextLength,
        template_tokens_per_message: template.tokensPerMessage,
        template_tokens_per_prompt: template.tokensPerPrompt,
        fingerprint: this.#fingerprint,
        state: life.stateOf(id),
      })),
      adapter: settings.make.title,
      // Others may use the server besides.
      running: Math.max(requests.count, this.#figures?.running ?? 0),
      waiting: this.#figures?.waiting ?? 0,
      blocks_total: this.#figures?.blocksTotal ?? 0,
      blocks_free: this.#figures?.blocksFree ?? 0,
      public_prefixes: this.publicPrefixes,
    };
  }
}
