// What the HTTP side of a pool is made of, once everything is open: no sockets, no processes. The server's routes read it.
import { setImmediate as yieldToEvents } from 'node:timers/promises';
import { invariant } from '../engine/invariant.ts';
import type { EngineStatus } from '../engine/request.ts';
import { Arrivals } from './arrivals.ts';
import { Attendance } from './attendance.ts';
import type { Identity } from './authenticate.ts';
import type { ServiceMeter } from './cost/serviceMeter.ts';
import { type EngineFigures, engineDetailOf, type PairPage, tiersDetailOf } from './engineDetail.ts';
import { engineMetricLines } from './engineMetrics.ts';
import { overloaded, poolStopping } from './errors.ts';
import type { Journal } from './journal.ts';
import type { KvEvents } from './kvEvents.ts';
import type { Lifecycle } from './lifecycle/lifecycle.ts';
import { lifecycleMetricLines } from './lifecycle/metricLines.ts';
import type { Log } from './log.ts';
import type { PoolMetrics } from './metrics.ts';
import { NonceMemory } from './nonces.ts';
import { type EnginePrefixes, PublicPrefixes } from './publicPrefixes.ts';
import type { Requests } from './requests.ts';
import type { PoolModel } from './servedModel.ts';
import type { PoolStatus } from './wire/events.ts';
import { distanceToWarm, mayBecome } from './wire/states.ts';
import type { StatusDetail } from './wire/status.ts';

const FIGURES_RETRY_MS = 1000;

export interface PoolParts {
  identity: Identity;
  models: readonly PoolModel[];
  requests: Requests;
  lifecycle: Lifecycle;
  service: ServiceMeter;
  journal: Journal;
  metrics: PoolMetrics;
  /** null: the engine thread did not answer in time. */
  engineFigures: (most: number) => Promise<EngineFigures[] | null>;
  /** Tenants that metrics name. */
  tenantMetrics: number;
  kvEvents: KvEvents;
  engineStatus: (engine: string) => EngineStatus | null;
  declarePrefixes: (model: string, prefixes: EnginePrefixes) => void;
  maxBodyBytes: number;
  /** 64 random bits, for a request that brings no seed. */
  drawSeed: () => bigint;
  now: () => number;
  log: Log;
}

export class Pool {
  readonly parts: PoolParts;
  readonly nonces = new NonceMemory();
  readonly attendance = new Attendance();
  readonly arrivals: Arrivals;
  readonly publicPrefixes: PublicPrefixes;
  readonly #models: ReadonlyMap<string, PoolModel>;

  constructor(parts: PoolParts) {
    invariant(parts.models.length > 0, 'a pool serves a model');
    this.parts = parts;
    this.arrivals = new Arrivals(parts.identity.poolId, parts.now);
    this.#models = new Map(parts.models.map((model) => [model.id, model]));
    this.publicPrefixes = new PublicPrefixes({
      model: (id) => this.model(id),
      declare: parts.declarePrefixes,
      pause: () => yieldToEvents(),
    });
  }

  model(id: string): PoolModel | undefined {
    return this.#models.get(id);
  }

  /** Takes requests, and can account for what it releases. */
  get ready(): boolean {
    return distanceToWarm(this.parts.lifecycle.state) !== null && this.parts.journal.healthy;
  }

  /** Refuses new requests; running ones go on. Can't be undone. */
  drain(): void {
    const { lifecycle, requests } = this.parts;
    if (!mayBecome(lifecycle.state, 'draining')) return;
    lifecycle.drain();
    requests.close(poolStopping('This pool is draining; ask another.'));
    this.parts.log('info', 'draining', { running: requests.count });
  }

  /** By engine; models of one file and equal settings share one. */
  engines(): Map<string, EngineStatus> {
    const statuses = this.parts.models.flatMap(({ engine }) => {
      const status = this.parts.engineStatus(engine);
      return status ? [[engine, status] as const] : [];
    });
    return new Map(statuses);
  }

  /** Throws PoolError (503) when the engine thread doesn't answer. `tenants` by name per engine. */
  async detail(tenants: number, page: PairPage): Promise<StatusDetail> {
    const figures = await this.parts.engineFigures(tenants);
    if (!figures) throw overloaded('The engine is busy with a long step; ask again.', FIGURES_RETRY_MS);
    const modelsOf = (engine: string) => this.parts.models.filter((one) => one.engine === engine).map(({ id }) => id);
    return {
      engines: figures.map((one) => engineDetailOf(modelsOf(one.engine), one, page)),
      tiers: tiersDetailOf(figures[0]?.status.tiers ?? null),
    };
  }

  /** Prometheus text. Without the engine's own figures when its thread doesn't answer. */
  async metricsText(): Promise<string> {
    const { metrics, tenantMetrics, lifecycle, service } = this.parts;
    const detail = await this.detail(tenantMetrics, { offset: 0, limit: 0 }).catch(() => null);
    const engines = detail ? engineMetricLines(detail, tenantMetrics) : [];
    return metrics.render([...engines, ...lifecycleMetricLines(lifecycle.figures), ...service.metricLines()]);
  }

  status(): PoolStatus {
    const { identity, models, lifecycle } = this.parts;
    const engines = [...this.engines().values()];
    const total = (of: (status: EngineStatus) => number) => engines.reduce((sum, status) => sum + of(status), 0);
    return {
      pool_id: identity.poolId,
      started_at_ms: identity.startedAtMs,
      state: lifecycle.state,
      models: models.map((model) => ({
        id: model.id,
        created: model.created,
        context_length: model.contextLength,
        template_tokens_per_message: model.text.templateTokensPerMessage,
        template_tokens_per_prompt: model.text.templateTokensPerPrompt,
        fingerprint: model.fingerprint,
        state: lifecycle.stateOf(model.engine),
      })),
      adapter: models[0]?.adapter ?? '',
      running: total((status) => status.running),
      waiting: total((status) => status.waiting),
      blocks_total: total((status) => status.blocksTotal),
      // What the prefix index alone holds is given up on demand.
      blocks_free: total((status) => status.blocksFree + status.blocksCached),
      public_prefixes: this.publicPrefixes.digest,
      service: this.parts.service.report(),
    };
  }
}
