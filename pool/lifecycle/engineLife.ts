// One engine as the lifecycle knows it: its state, which changes by the table alone, and what the next change is decided by.
import { invariant } from '../../engine/invariant.ts';
import { nextRestart, type RestartPolicy } from '../restartPolicy.ts';
import { mayBecome, type PoolState } from '../wire/states.ts';
import type { Resident } from './residency.ts';
import type { WaitingRoom } from './waitingRoom.ts';

/** Lost devices are opened again; one that is lost again and again is for a new process, or a person. */
const REOPEN_POLICY: RestartPolicy = { initialDelayMs: 250, maxDelayMs: 5000, maxDeaths: 4, windowMs: 120_000 };

export interface Change {
  from: PoolState;
  to: PoolState;
  /** How long it was what it was. */
  afterMs: number;
}

export class EngineLife {
  readonly engine: string;
  /** Where requests wait while it is not warm. */
  readonly room: WaitingRoom;
  /** Device memory that it takes while it is awake. */
  deviceBytes: number;
  /** When its last request began or ended, and when it last computed anything. */
  usedMs: number;
  provedMs: number;
  /** Somebody wants it awake. */
  wanted: PromiseWithResolvers<void> | null = null;
  /** About to fall asleep because it is idle. */
  dozes = false;
  /** Takes no new requests, because another needs its memory. */
  yields = false;
  #state: PoolState = 'cold';
  #sinceMs: number;
  readonly #losses: number[] = [];

  constructor(engine: string, room: WaitingRoom, deviceBytes: number, nowMs: number) {
    this.engine = engine;
    this.room = room;
    this.deviceBytes = deviceBytes;
    this.usedMs = nowMs;
    this.provedMs = nowMs;
    this.#sinceMs = nowMs;
  }

  get state(): PoolState {
    return this.#state;
  }

  become(to: PoolState, nowMs: number): Change {
    const from = this.#state;
    invariant(mayBecome(from, to), 'an engine changes by the table of states', { from, to });
    const change = { from, to, afterMs: nowMs - this.#sinceMs };
    this.#state = to;
    this.#sinceMs = nowMs;
    return change;
  }

  /** A request began or ended. */
  use(nowMs: number): void {
    this.usedMs = nowMs;
    this.provedMs = nowMs;
  }

  /** Its device was lost now: when it is opened again, or null where that has been done too often. */
  noteLoss(nowMs: number): { delayMs: number } | null {
    this.#losses.push(nowMs);
    if (this.#losses.length > REOPEN_POLICY.maxDeaths) this.#losses.shift();
    return nextRestart(REOPEN_POLICY, this.#losses, nowMs);
  }

  /** Resolves when it is warm; whether somebody waits for that is nobody's affair. */
  want(): PromiseWithResolvers<void> {
    const wanted = Promise.withResolvers<void>();
    wanted.promise.catch(() => {});
    this.wanted = wanted;
    return wanted;
  }

  resident(running: number): Resident {
    const { engine, state, usedMs, deviceBytes } = this;
    return { engine, state, usedMs, deviceBytes, running };
  }
}
