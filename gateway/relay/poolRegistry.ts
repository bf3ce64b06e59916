// The pools and what is known of each: its last status, and whether that is fresh. Choosing among them is a pure decision; asking
// them again and again, with backoff for those that don't answer, is a loop with a stop.
import type { PoolStatus, ServedModel } from '../../pool/wire/events.ts';
import { distanceToWarm } from '../../pool/wire/states.ts';
import type { Clock } from '../clock.ts';
import { Leases } from '../leases.ts';
import { Breaker } from '../routing/breaker.ts';
import type { Pieces, RoutingPolicy } from '../routing/policy.ts';
import { PrefixAffine } from '../routing/prefixAffine.ts';
import type { PoolClient } from './poolClient.ts';
import { isOurs } from './poolRequest.ts';

const POLL_INTERVAL_MS = 1000;
/** A pool that failed is asked again so soon, then in pauses that double. */
const FIRST_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 5000;
/** A status older than this says nothing about now. Longer than an interval and a slow answer together. */
const STATUS_VALID_MS = 8000;
/** So many more requests a warm pool may have before one that is on its way to be warm is as good; twice as many before one is woken. */
const WAKE_LOAD = 8;

export interface PoolState {
  client: PoolClient;
  /** Models by configuration: what the pool serves once it is up. */
  declaredModels: readonly string[];
  /** Another takes its place: it ends what it has, and is asked for its receipts. */
  retired: boolean;
  status: PoolStatus | null;
  statusAtMs: number;
  /** When it was last asked for its status, and when it last answered: a status may also come unasked. */
  askedAtMs: number;
  answeredAtMs: number;
  /** Questions and requests that failed since its last status. */
  failures: number;
  breaker: Breaker;
  /** Requests that this gateway has at the pool. */
  inFlight: Leases;
}

/** Of a request that has its pool: what the policy is told when it has been served. */
export interface Route {
  pieces: Pieces;
  /** Of the pool, when it was chosen. */
  load: number;
}

/** Where a request is served. */
export interface Place {
  pool: PoolState;
  model: ServedModel;
  route: Route;
}

export type Choice = ({ kind: 'pool' } & Place) | { kind: 'none_ready' } | { kind: 'unknown_model' };

export function isReady(pool: PoolState, nowMs: number): boolean {
  const { failures, status, statusAtMs } = pool;
  return (
    failures === 0 && status !== null && distanceToWarm(status.state) !== null && nowMs - statusAtMs <= STATUS_VALID_MS
  );
}

interface Able {
  pool: PoolState;
  model: ServedModel;
  load: number;
}

/** Ready pools that serve the model; one that would have to wake for it counts as loaded. A model that nobody can have heard of yet counts as not ready. */
function ablePools(pools: readonly PoolState[], modelId: string, nowMs: number): { able: Able[]; known: boolean } {
  const able: Able[] = [];
  let known = false;
  for (const pool of pools) {
    if (pool.retired) continue;
    const model = pool.status?.models.find((one) => one.id === modelId);
    known ||= model !== undefined || pool.declaredModels.includes(modelId);
    known ||= pool.status === null && pool.declaredModels.length === 0;
    if (!model || !pool.status || !isReady(pool, nowMs)) continue;
    const distance = distanceToWarm(model.state);
    if (distance === null) continue;
    const busy = Math.max(pool.inFlight.count(nowMs), pool.status.running + pool.status.waiting);
    able.push({ pool, model, load: busy + distance * WAKE_LOAD });
  }
  return { able, known };
}

export interface Wish {
  /** Of the prompt; asked where there is more than one pool to choose from. */
  piecesOf?: () => Pieces;
  /** Narrows the pools that it may be. */
  accepts?: (pool: PoolState, model: ServedModel) => boolean;
  /** Nothing else will do: where the breakers of all that it accepts are open, one of them all the same. */
  lastResort?: boolean;
}

/** Those whose breakers are closed; where that would be fewer than half of them, all: then it is not the pools. */
function unbroken(able: readonly Able[], nowMs: number): readonly Able[] {
  const closed = able.filter(({ pool }) => pool.breaker.closed(nowMs));
  return closed.length * 2 >= able.length ? closed : able;
}

/** The one of the able pools that the policy takes. */
export function choosePool(
  pools: readonly PoolState[],
  modelId: string,
  nowMs: number,
  policy: RoutingPolicy,
  { piecesOf = () => [], accepts = () => true, lastResort = false }: Wish = {},
): Choice {
  const { able: all, known } = ablePools(pools, modelId, nowMs);
  const accepted = (among: readonly Able[]) => among.filter(({ pool, model }) => accepts(pool, model));
  const whole = accepted(unbroken(all, nowMs));
  const able = whole.length === 0 && lastResort ? accepted(all) : whole;
  if (able.length === 0) return { kind: known ? 'none_ready' : 'unknown_model' };
  const pieces = able.length > 1 ? piecesOf() : [];
  const candidates = able.map(({ pool, load }) => ({ id: pool.client.target.id, load }));
  const { pool, model, load } = able[policy.choose(candidates, pieces)]!;
  return { kind: 'pool', pool, model, route: { pieces, load } };
}

/** A pool as the operator knows it. */
export interface KnownPool {
  client: PoolClient;
  models: readonly string[];
  retired?: boolean;
}

export class PoolRegistry {
  readonly #clock: Clock;
  readonly #onStatus: (pool: PoolState) => void;
  readonly #policy: RoutingPolicy;
  #pools: readonly PoolState[] = [];
  /** Set by `run`: ends all loops. */
  #signal: AbortSignal | null = null;
  readonly #loops = new Map<PoolState, { end: AbortController; ended: Promise<void> }>();
  /** Ends the pause of a pool's loop. */
  readonly #naps = new Map<PoolState, AbortController>();

  /** `onStatus`: a pool has told its status; the registry waits for nothing that follows from it. */
  constructor(
    pools: readonly KnownPool[],
    clock: Clock,
    onStatus: (pool: PoolState) => void = () => {},
    policy: RoutingPolicy = new PrefixAffine(),
  ) {
    this.#clock = clock;
    this.#onStatus = onStatus;
    this.#policy = policy;
    this.replace(pools);
  }

  get pools(): readonly PoolState[] {
    return this.#pools;
  }

  /** From now on these are the pools. What is known of one that stays is kept; requests at one that goes run on. */
  replace(pools: readonly KnownPool[]): void {
    this.#pools = pools.map(({ client, models, retired = false }) => {
      const known = this.#pools.find((pool) => isSame(pool.client, client));
      if (known) return Object.assign(known, { declaredModels: models, retired });
      return {
        ...{ client, declaredModels: models, retired, status: null, failures: 0 },
        ...{ inFlight: new Leases(), breaker: new Breaker(), statusAtMs: Number.NEGATIVE_INFINITY },
        ...{ askedAtMs: Number.NEGATIVE_INFINITY, answeredAtMs: Number.NEGATIVE_INFINITY },
      };
    });
    for (const [pool, { end }] of this.#loops) if (!this.#pools.includes(pool)) end.abort();
    if (this.#signal) this.#watchAll(this.#signal);
  }

  /** The same, but nobody is retired before those who are new have told their status, or failed to. */
  async adopt(pools: readonly KnownPool[]): Promise<void> {
    const before = this.#pools;
    const known = before.map(({ client, declaredModels: models, retired }) => ({ client, models, retired }));
    this.replace([...known, ...pools.filter(({ client }) => !before.some((pool) => isSame(pool.client, client)))]);
    await Promise.all(this.#pools.filter((pool) => !before.includes(pool)).map((pool) => this.refresh(pool)));
    this.replace(pools);
  }

  /** A pool has told its status by itself. What is known to be newer stays; one that had failed to answer is asked now, not when its pause ends. */
  heard(id: string, status: PoolStatus, atMs: number): void {
    const pool = this.byId(id);
    if (!pool || pool.statusAtMs >= atMs) return;
    this.#take(pool, status, atMs);
    if (pool.failures > 0) this.#naps.get(pool)?.abort('ask now');
  }

  byId(id: string): PoolState | undefined {
    return this.pools.find((pool) => pool.client.target.id === id);
  }

  choose(modelId: string, wish?: Wish): Choice {
    const nowMs = this.#clock.now();
    const choice = choosePool(this.pools, modelId, nowMs, this.#policy, wish);
    if (choice.kind === 'pool') choice.pool.breaker.given(nowMs);
    return choice;
  }

  /** The pool has computed a request's prompt. */
  computed({ pool: { client }, route: { pieces } }: Place): void {
    this.#policy.computed?.(client.target.id, pieces);
  }

  /** Its first token came after so long. */
  answered({ pool: { client, breaker }, route: { load } }: Place, firstTokenMs: number): void {
    breaker.succeeded(this.#clock.now());
    this.#policy.answered?.(client.target.id, load, firstTokenMs);
  }

  /** Models as last told, by id; the first pool's word counts. */
  models(): ServedModel[] {
    const byId = new Map<string, ServedModel>();
    for (const model of this.pools.flatMap((pool) => pool.status?.models ?? []))
      if (!byId.has(model.id)) byId.set(model.id, model);
    return [...byId.values()];
  }

  /** Every model that is declared or was ever told of has a ready pool, and there is one at all. */
  ready(): boolean {
    const current = this.pools.filter(({ retired }) => !retired);
    const ids = new Set(
      current.flatMap((pool) => [...pool.declaredModels, ...(pool.status?.models ?? []).map((m) => m.id)]),
    );
    const nowMs = this.#clock.now();
    return ids.size > 0 && [...ids].every((id) => ablePools(this.pools, id, nowMs).able.length > 0);
  }

  /** A pool that failed a request is not chosen again before it has answered a status, for which it is asked soon. */
  reportFailure(pool: PoolState): void {
    pool.failures += 1;
    pool.breaker.failed(this.#clock.now());
    this.#naps.get(pool)?.abort('ask now');
  }

  /** A pool that failed a request by its own word is there: only its breaker counts it. */
  reportGivenUp(pool: PoolState): void {
    pool.breaker.failed(this.#clock.now());
  }

  async refresh(pool: PoolState): Promise<void> {
    pool.askedAtMs = this.#clock.now();
    try {
      const status = await pool.client.status();
      pool.failures = 0;
      pool.answeredAtMs = this.#clock.now();
      this.#take(pool, status, pool.answeredAtMs);
    } catch (error) {
      if (!isOurs(error)) pool.failures += 1;
    }
  }

  #take(pool: PoolState, status: PoolStatus, atMs: number): void {
    const isAnother = pool.status !== null && pool.status.started_at_ms !== status.started_at_ms;
    if (isAnother) {
      this.#policy.forget?.(pool.client.target.id);
      pool.breaker.reset();
    }
    Object.assign(pool, { status, statusAtMs: atMs });
    this.#onStatus(pool);
  }

  /** Asks every pool until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    this.#signal = signal;
    this.#watchAll(signal);
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
    this.#signal = null;
    await Promise.all(Array.from(this.#loops.values(), ({ ended }) => ended));
  }

  #watchAll(signal: AbortSignal): void {
    for (const pool of this.#pools) {
      if (this.#loops.has(pool)) continue;
      const end = new AbortController();
      const ended = this.#watch(pool, AbortSignal.any([signal, end.signal])).then(() => void this.#loops.delete(pool));
      this.#loops.set(pool, { end, ended });
    }
  }

  async #watch(pool: PoolState, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.refresh(pool);
      const nap = new AbortController();
      this.#naps.set(pool, nap);
      const backoffMs = Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** Math.min(pool.failures - 1, 10));
      const pauseMs = pool.failures === 0 ? POLL_INTERVAL_MS : backoffMs;
      await this.#clock.sleep(pauseMs, AbortSignal.any([signal, nap.signal]));
    }
    this.#naps.delete(pool);
  }
}

/** The same process as far as requests are concerned: name, address and key. */
function isSame({ target: a }: PoolClient, { target: b }: PoolClient): boolean {
  const equalKeys = a.keyId === b.keyId && a.secret.equals(b.secret);
  return a.id === b.id && a.url === b.url && equalKeys;
}
