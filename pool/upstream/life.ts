// Whether the models of a foreign server are served now. An open port proves nothing: a model is warm when it has generated a token, and it
// stays so while it brings tokens to requests, or to a probe when nobody asks. Whoever runs the server starts it again; this only sees it.
//
//   cold ─ listed ─▶ loading ─ a token ─▶ warm ─ a probe or a connection fails ─▶ looked at ─▶ warm still, or cold
import { setTimeout as sleep } from 'node:timers/promises';
import { type PoolError, poolNotReady, poolStopping } from '../errors.ts';
import { EngineLife } from '../lifecycle/engineLife.ts';
import type { EngineFigure } from '../lifecycle/metricLines.ts';
import { WaitingRoom } from '../lifecycle/waitingRoom.ts';
import { errorText, type Log } from '../log.ts';
import { type PoolState, stateOfAll } from '../wire/states.ts';
import { isBusy } from './errors.ts';
import type { UpstreamModel } from './translate.ts';

/** Between two looks at what is not warm, doubling up to the most. */
const LOOK_MS = 500;
const MAX_LOOK_MS = 5000;
/** How often it is seen to whether somebody is to be looked at. */
const TICK_MS = 100;
/** Whoever comes again sooner would mostly come too soon. */
const RETRY_AFTER_MS = 2000;

export interface LifeOptions {
  /** `contextLength` null: the server has to tell it. */
  models: readonly { id: string; name: string; contextLength: number | null }[];
  /** Seats of the room where requests wait for a model that loads, and how long. */
  seats: number;
  waitMs: number;
  /** A warm model that brought no token for so long is asked for one. 0: never. */
  probeMs: number;
  listed: () => Promise<Map<string, number | null>>;
  token: (name: string) => Promise<void>;
  running: (model: string) => number;
  now: () => number;
  log: Log;
}

/** 503: the server is not there, or doesn't have the model. */
export function engineAbsent(): PoolError {
  return poolNotReady('The engine behind this pool is not there.', RETRY_AFTER_MS);
}

interface Held {
  life: EngineLife;
  name: string;
  configured: number | null;
  /** Positions of a sequence; null: nobody has told yet. */
  contextLength: number | null;
  /** When it is to be looked at. */
  nextMs: number;
  pauseMs: number;
  /** What the log was told last. */
  said: string;
}

export class UpstreamLife {
  readonly #options: LifeOptions;
  readonly #held: ReadonlyMap<string, Held>;
  #whole: 'serving' | 'draining' | 'stopped' = 'serving';

  constructor(options: LifeOptions) {
    this.#options = options;
    const { models, seats, waitMs, now } = options;
    this.#held = new Map(
      models.map(({ id, name, contextLength }) => {
        const room = new WaitingRoom({ seats, waitMs, retryAfterMs: () => RETRY_AFTER_MS });
        const life = new EngineLife(id, room, 0, now());
        return [id, { life, name, configured: contextLength, contextLength, nextMs: 0, pauseMs: LOOK_MS, said: '' }];
      }),
    );
  }

  get state(): PoolState {
    if (this.#whole !== 'serving') return this.#whole;
    return stateOfAll([...this.#held.values()].map(({ life }) => life.state));
  }

  stateOf(id: string): PoolState {
    return this.#whole === 'serving' ? (this.#held.get(id)?.life.state ?? 'cold') : this.#whole;
  }

  /** Those whose context is known. */
  get models(): UpstreamModel[] {
    return [...this.#held].flatMap(([id, { name, contextLength }]) =>
      contextLength === null ? [] : { id, name, contextLength },
    );
  }

  /** Whether it is to be served, known or not. */
  has(id: string): boolean {
    return this.#held.has(id);
  }

  get figures(): EngineFigure[] {
    return Array.from(this.#held.values(), ({ life }) => ({
      ...{ engine: life.engine, state: this.stateOf(life.engine), waiting: life.room.size, deviceBytes: 0 },
    }));
  }

  /** Resolves when `start` has, which waits while the model loads. Throws PoolError (503) as `start` does, or because there is nothing to wait for. */
  admit(id: string, start: () => Promise<void>, signal: AbortSignal, limitMs: number): Promise<void> {
    const held = this.#held.get(id);
    if (!held || this.#whole !== 'serving') return start(); // refused there, in the words of its end
    const { state, room } = held.life;
    if (state === 'warm') return start();
    if (state === 'loading') return room.enter(start, signal, limitMs);
    throw engineAbsent();
  }

  /** It has brought a token. */
  proved(id: string): void {
    this.#held.get(id)?.life.use(this.#options.now());
  }

  /** Something failed a request: looked at now. */
  doubted(id: string): void {
    const held = this.#held.get(id);
    if (!held) return;
    held.nextMs = 0;
    held.life.provedMs = Number.NEGATIVE_INFINITY;
  }

  /** Until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const due = [...this.#held.values()].filter((held) => this.#isDue(held));
      if (due.length > 0 && this.#whole === 'serving') await this.#look(due);
      await sleep(TICK_MS, undefined, { signal }).catch(() => {});
    }
  }

  /** Nothing new starts, and nobody waits any more. Can't be undone. */
  drain(): void {
    if (this.#whole !== 'serving') return;
    this.#whole = 'draining';
    for (const { life } of this.#held.values())
      life.room.refuseAll(poolStopping('This pool is draining; ask another.'));
  }

  stopped(): void {
    this.#whole = 'stopped';
  }

  #isDue({ life, nextMs }: Held): boolean {
    const { now, probeMs, running } = this.#options;
    if (life.state !== 'warm') return now() >= nextMs;
    if (life.provedMs === Number.NEGATIVE_INFINITY) return now() >= nextMs;
    return probeMs > 0 && running(life.engine) === 0 && now() - life.provedMs >= probeMs;
  }

  async #look(due: readonly Held[]): Promise<void> {
    const listed = await this.#options.listed().catch((error: unknown) => errorText(error));
    await Promise.all(due.map((held) => this.#lookAt(held, listed)));
  }

  async #lookAt(held: Held, listed: Map<string, number | null> | string): Promise<void> {
    const { life, name } = held;
    const { token, now } = this.#options;
    if (typeof listed === 'string') return this.#notThere(held, listed);
    if (!listed.has(name)) {
      const served = [...listed.keys()].slice(0, 5).join(', ');
      return this.#notThere(held, `it does not serve ${name}; it serves: ${served}`);
    }
    held.contextLength = held.configured ?? listed.get(name) ?? null;
    if (held.contextLength === null)
      return this.#notThere(held, `it tells no context length of ${name}; set contextLength in the configuration`);
    if (life.state === 'cold') this.#become(held, 'loading');
    try {
      await token(name);
    } catch (error) {
      // One that is full computes, if it ever did.
      if (life.state === 'warm' && isBusy(error)) life.use(now());
      else if (life.state === 'warm') this.#notThere(held, errorText(error));
      else this.#later(held, errorText(error));
      return;
    }
    life.use(now());
    held.pauseMs = LOOK_MS;
    held.said = '';
    if (life.state !== 'warm') this.#become(held, 'warm');
    if (this.#whole === 'serving') life.room.open();
  }

  #notThere(held: Held, reason: string): void {
    if (held.life.state !== 'cold') this.#become(held, 'cold');
    held.life.room.refuseAll(poolNotReady('The engine behind this pool is gone.', RETRY_AFTER_MS));
    this.#later(held, reason);
  }

  #later(held: Held, reason: string): void {
    const { log, now } = this.#options;
    if (held.said !== reason) log('warn', 'upstream_not_ready', { model: held.life.engine, reason });
    held.said = reason;
    held.nextMs = now() + held.pauseMs;
    held.pauseMs = Math.min(MAX_LOOK_MS, 2 * held.pauseMs);
  }

  #become({ life }: Held, state: PoolState): void {
    const { from, to, afterMs } = life.become(state, this.#options.now());
    this.#options.log('info', 'engine_state', { engine: life.engine, from, to, after_ms: afterMs });
  }
}
