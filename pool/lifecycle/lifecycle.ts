// The states of a pool's engines, and what moves them: requests, idleness, the memory that they share, signed calls, a lost device. One
// engine moves at a time, so that two never meet in the same memory; requests for one that is not warm wait, and wake it together.
//
//   request ─▶ warm? ──yes──▶ start        not warm ─▶ waiting room ─▶ one wake for all ─▶ memory ─▶ awake ─▶ the room opens
//                                                                                            │ all others have requests: the least
//                                                                                            ▼ recently used takes no more, and it
//                                                                                         patient   is tried again when one has none
import { setTimeout as delay } from 'node:timers/promises';
import { invariant } from '../../engine/invariant.ts';
import { poolStopping, wrongState } from '../errors.ts';
import { errorText, type Log } from '../log.ts';
import type { PoolMetrics } from '../metrics.ts';
import { mayBecome, type PoolState, stateOfAll } from '../wire/states.ts';
import { EngineLife } from './engineLife.ts';
import type { EngineFigure } from './metricLines.ts';
import { proof } from './proof.ts';
import { type IdleRule, idleEngines, makeRoom, type Resident } from './residency.ts';
import { WaitingRoom } from './waitingRoom.ts';

/** What the engine thread can be told to do with an engine. Each answers with the device memory that it takes then. */
export interface EngineOrders {
  sleep(engine: string): Promise<number>;
  /** Also after its device was lost. Resolves when a real token has been generated. */
  wake(engine: string): Promise<number>;
  probe(engine: string): Promise<number>;
}

/** A model needs more device memory than all may take together. */
export class DeviceBudgetError extends Error {
  override readonly name = 'DeviceBudgetError';
  readonly code = 'device_budget';

  constructor(engine: string, neededBytes: number, budgetBytes: number) {
    super(
      `${engine} takes ${neededBytes} bytes of device memory, and pool.deviceBytes is ${budgetBytes}. Raise it, or lower the model's kvBlocks.`,
    );
  }
}

export interface LifecycleSettings extends IdleRule {
  /** Device memory for all engines together; null: no bound. */
  deviceBytes: number | null;
  /** Requests that wait for one engine. */
  seats: number;
  waitMs: number;
  /** An engine that computed nothing for so long generates a token, to see that it can. 0: never. */
  probeMs: number;
}

export interface LifecycleOptions {
  settings: LifecycleSettings;
  orders: EngineOrders;
  /** Requests that an engine serves now. */
  running: (engine: string) => number;
  /** An engine can't be brought back: the process has to end. */
  onBroken: (error: unknown) => void;
  metrics: PoolMetrics;
  now: () => number;
  log: Log;
}

/** Until a wake has been measured it is taken to last so long. */
const ASSUMED_WAKE_MS = 1000;
/** Whoever comes again sooner would mostly come too soon. */
const MIN_RETRY_AFTER_MS = 1000;
export class Lifecycle {
  readonly #options: LifecycleOptions;
  readonly #held = new Map<string, EngineLife>();
  /** The last move; the next begins when it has ended. */
  #moves: Promise<void> = Promise.resolve();
  /** Wanted, and without memory until one of those who yield has none of its requests left. */
  readonly #patient = new Set<EngineLife>();
  #whole: 'serving' | 'draining' | 'stopped' = 'serving';
  #lastWakeMs = ASSUMED_WAKE_MS;

  constructor(options: LifecycleOptions) {
    this.#options = options;
  }

  /** Loads an engine for the first time, once there is room. `deviceBytes`: as far as it is known before. */
  load(engine: string, deviceBytes: number, loading: () => Promise<number>): Promise<void> {
    const { settings, now } = this.#options;
    const retryAfterMs = () => Math.max(MIN_RETRY_AFTER_MS, this.#lastWakeMs);
    const room = new WaitingRoom({ seats: settings.seats, waitMs: settings.waitMs, retryAfterMs });
    const held = new EngineLife(engine, room, deviceBytes, now());
    this.#held.set(engine, held);
    return this.#move(async () => {
      this.#refuseOverBudget(held);
      invariant(await this.#makeRoom(held), 'nobody has requests yet', { engine });
      await this.#open(held, 'loading', loading);
      this.#refuseOverBudget(held);
    });
  }

  get state(): PoolState {
    if (this.#whole !== 'serving') return this.#whole;
    return stateOfAll([...this.#held.values()].map(({ state }) => state));
  }

  stateOf(engine: string): PoolState {
    return this.#whole === 'serving' ? this.#of(engine).state : this.#whole;
  }

  get figures(): EngineFigure[] {
    return Array.from(this.#held.values(), ({ engine, room, state, deviceBytes }) => ({
      ...{ engine, state: this.stateOf(engine), waiting: room.size },
      deviceBytes: state === 'warm' ? deviceBytes : 0,
    }));
  }

  /** `start` is called at once when the engine is warm, otherwise when it has been woken. Throws PoolError (503) where it isn't called. */
  async admit(engine: string, start: () => Promise<void>, signal: AbortSignal, limitMs: number): Promise<void> {
    const held = this.#of(engine);
    if (this.#whole !== 'serving' || (held.state === 'warm' && !held.yields)) {
      held.use(this.#options.now());
      return start(); // a pool that drains refuses there, in the words of its end
    }
    const entered = held.room.enter(start, signal, limitMs);
    // One that yields opens its room again when it may go on, or wakes after it has slept.
    if (held.state !== 'warm') void this.#want(held);
    return entered;
  }

  /** A request has ended. */
  ended(engine: string): void {
    const held = this.#of(engine);
    held.use(this.#options.now());
    if (this.#options.running(engine) === 0) this.#tryPatient();
  }

  /** Resolves when it is warm. Throws PoolError (409) where it can't be. */
  async wake(engine: string): Promise<void> {
    this.#refuseUnlessServing('wake');
    const held = this.#of(engine);
    if (held.state !== 'warm') await this.#want(held);
  }

  /** Resolves when its device memory is given back. Throws PoolError (409) while it has requests, or is on its way to be warm. */
  async sleep(engine: string): Promise<void> {
    this.#refuseUnlessServing('sleep');
    const held = this.#of(engine);
    const running = this.#options.running(engine) + held.room.size;
    if (running > 0) throw wrongState(`The model has ${running} requests; it sleeps when they have ended.`);
    if (held.state !== 'asleep' && !mayBecome(held.state, 'asleep'))
      throw wrongState(`A model that is ${held.state} can't sleep.`);
    await this.#move(async () => {
      if (held.state === 'warm' && this.#options.running(engine) === 0) await this.#toSleep(held);
    });
  }

  /** The engine's device is gone, and with it what it computed: it is opened again. */
  lost(engine: string, error: unknown): void {
    const held = this.#of(engine);
    if (held.state !== 'warm' || this.#whole !== 'serving') return; // a move that is under way fails by itself
    const next = held.noteLoss(this.#options.now());
    if (!next) {
      this.#options.onBroken(error);
      return;
    }
    this.#become(held, 'loading');
    held.yields = false;
    held.want();
    this.#tryPatient();
    void delay(next.delayMs).then(() => this.#pursue(held));
  }

  /** Puts to sleep who is idle, and proves who has not computed for long. */
  tick(): void {
    if (this.#whole !== 'serving') return;
    const { settings, now } = this.#options;
    const nowMs = now();
    for (const engine of this.#idle()) this.#doze(this.#of(engine));
    if (settings.probeMs === 0) return;
    for (const held of this.#held.values()) {
      if (held.state !== 'warm' || this.#options.running(held.engine) > 0) continue;
      if (nowMs - held.provedMs < settings.probeMs) continue;
      held.provedMs = nowMs;
      void this.#probe(held);
    }
  }

  /** Nothing new starts, and nobody waits any more. Can't be undone. */
  drain(): void {
    if (this.#whole !== 'serving') return;
    this.#whole = 'draining';
    for (const { room, wanted } of this.#held.values()) {
      room.refuseAll(poolStopping('This pool is draining; ask another.'));
      wanted?.reject(wrongState('This pool is draining.'));
    }
  }

  stopped(): void {
    this.#whole = 'stopped';
  }

  #refuseUnlessServing(what: string): void {
    if (this.#whole !== 'serving') throw wrongState(`A pool that is ${this.#whole} can't ${what}.`);
  }

  /** One wake for all who want one. Resolves when it is warm; who does not wait for that need not care. */
  #want(held: EngineLife): Promise<void> {
    if (held.wanted) return held.wanted.promise;
    const { promise } = held.want();
    this.#pursue(held);
    return promise;
  }

  /** Brings it to the device, or has it wait until another has given up its memory. */
  #pursue(held: EngineLife): void {
    this.#mustMove(async () => {
      if (this.#whole !== 'serving') return;
      if (await this.#makeRoom(held)) {
        const by = held.state === 'asleep' ? 'waking' : 'loading';
        await this.#open(held, by, () => this.#options.orders.wake(held.engine));
      } else this.#patient.add(held);
    });
  }

  /** In the order in which they came. */
  #tryPatient(): void {
    for (const held of [...this.#patient]) {
      this.#patient.delete(held);
      this.#pursue(held);
    }
  }

  #doze(held: EngineLife): void {
    if (held.dozes) return;
    held.dozes = true;
    this.#mustMove(async () => {
      held.dozes = false;
      if (this.#idle().includes(held.engine)) await this.#toSleep(held);
    });
  }

  /** False where all others have requests: then one of them has begun to yield. */
  async #makeRoom(wanted: EngineLife): Promise<boolean> {
    for (;;) {
      const room = makeRoom(this.#residents(), this.#resident(wanted), this.#options.settings.deviceBytes);
      if (room.kind === 'fits') break;
      const other = this.#of(room.engine);
      if (room.kind === 'yield') {
        other.yields = true;
        return false;
      }
      await this.#toSleep(other);
    }
    if (this.#patient.size > 0) return true;
    for (const held of this.#held.values()) {
      if (!held.yields) continue;
      held.yields = false; // memory came from another
      held.room.open();
    }
    return true;
  }

  #refuseOverBudget({ engine, deviceBytes }: EngineLife): void {
    const budget = this.#options.settings.deviceBytes;
    if (budget !== null && deviceBytes > budget) throw new DeviceBudgetError(engine, deviceBytes, budget);
  }

  async #toSleep(held: EngineLife): Promise<void> {
    this.#become(held, 'asleep');
    held.yields = false;
    this.#options.metrics.sleeps.add(1);
    await this.#options.orders.sleep(held.engine);
    this.#tryPatient();
    // Who came meanwhile waits for it.
    if (held.room.size > 0) void this.#want(held);
  }

  async #open(held: EngineLife, by: 'loading' | 'waking', open: () => Promise<number>): Promise<void> {
    const beganMs = this.#options.now();
    if (held.state !== by) this.#become(held, by);
    held.deviceBytes = await open();
    const ms = this.#options.now() - beganMs;
    if (by === 'waking') {
      this.#options.metrics.wakeSeconds.observe(ms / 1000);
      this.#lastWakeMs = ms;
    }
    this.#become(held, 'warm');
    this.#warm(held);
  }

  #warm(held: EngineLife): void {
    held.wanted?.resolve();
    held.wanted = null;
    held.yields = false;
    held.use(this.#options.now());
    if (this.#whole === 'serving') held.room.open();
  }

  /** One real token. A lost device tells itself; whatever else keeps it from computing is for a new process. */
  async #probe(held: EngineLife): Promise<void> {
    try {
      await proof(this.#options.orders.probe(held.engine));
    } catch (error) {
      this.#options.log('error', 'probe_failed', { engine: held.engine, error: errorText(error) });
      if (held.state === 'warm' && this.#whole === 'serving') this.#options.onBroken(error);
    }
  }

  #move(move: () => Promise<void>): Promise<void> {
    const moved = this.#moves.then(move);
    this.#moves = moved.catch(() => {});
    return moved;
  }

  /** A move without which the pool can't go on. */
  #mustMove(move: () => Promise<void>): void {
    this.#move(move).catch((error: unknown) => {
      if (this.#whole === 'serving') this.#options.onBroken(error);
    });
  }

  #idle(): string[] {
    const { settings, now } = this.#options;
    return idleEngines(this.#residents(), settings, now());
  }

  #become(held: EngineLife, state: PoolState): void {
    const { from, to, afterMs } = held.become(state, this.#options.now());
    this.#options.log('info', 'engine_state', { engine: held.engine, from, to, after_ms: afterMs });
  }

  #residents(): Resident[] {
    return Array.from(this.#held.values(), (held) => this.#resident(held));
  }

  #resident(held: EngineLife): Resident {
    return held.resident(this.#options.running(held.engine));
  }

  #of(engine: string): EngineLife {
    const held = this.#held.get(engine);
    invariant(held, 'an engine was loaded', { engine });
    return held;
  }
}
