// Keeps one process serving: starts it, waits until it is ready, asks it regularly, and starts it again on the same port when it died
// or no longer answers. It knows sections and ports, not pools: a gateway is kept the same way.
//
//   start ─▶ loading ─ready▶ serving ─death▶ waiting ─▶ loading …   too many deaths ─▶ failed;  stop ─▶ stopped, from anywhere
import { setTimeout as sleep } from 'node:timers/promises';
import { Child, type Command, type Exit } from './childProcess.ts';
import { healthStatus } from './healthCheck.ts';
import type { ProcessMessage } from './processProtocol.ts';
import { DEFAULT_RESTART_POLICY, nextRestart, type RestartPolicy } from './restartPolicy.ts';

/** The process could not be started, or died too often. The message has its last words. */
export class ProcessFailed extends Error {
  override readonly name = 'ProcessFailed';
  readonly code: 'start_failed' | 'crash_loop';

  constructor(code: 'start_failed' | 'crash_loop', message: string) {
    super(message);
    this.code = code;
  }
}

export interface HealthCheck {
  /** Any HTTP answer counts as alive; its status says whether it is ready. */
  path: string;
  scheme: 'http' | 'https';
  intervalMs: number;
  timeoutMs: number;
  /** Unanswered checks in a row after which the process is killed. */
  failures: number;
}

/** A start that says nothing for this long hangs: each stage of a start tells its progress far more often. */
export const DEFAULT_STALL_LIMIT_MS = 300_000;

export const POOL_HEALTH: HealthCheck = {
  ...{ path: '/health/ready', scheme: 'http' },
  ...{ intervalMs: 2000, timeoutMs: 5000, failures: 3 },
};

export type SupervisorState = 'loading' | 'ready' | 'unready' | 'restarting' | 'stopped' | 'failed';

export interface SupervisorOptions extends Command {
  host: string;
  /** The section; `port` is the one to come back on, null at the first start. */
  section: (port: number | null) => unknown;
  health?: HealthCheck;
  restart?: RestartPolicy;
  /** Between SIGTERM and SIGKILL: the process' own drain bound and a little more. */
  stopLimitMs: number;
  /** Longest silence during a start. */
  stallLimitMs?: number;
  /** What the process says of its resident memory, every few seconds. */
  onMemory?: (rssBytes: number) => void;
  /** The process has the pools that it was told. */
  onAnnounced?: () => void;
  onProgress?: (message: Extract<ProcessMessage, { type: 'progress' }>) => void;
  onStderr?: (line: string) => void;
  onState?: (state: SupervisorState, detail: string) => void;
}

export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #stopped = new AbortController();
  readonly #failed = Promise.withResolvers<ProcessFailed>();
  readonly #deaths: number[] = [];
  #child: Child | null = null;
  #port: number | null = null;
  #loop: Promise<void> = Promise.resolve();

  constructor(options: SupervisorOptions) {
    this.#options = options;
  }

  /** Resolves if it ever gives up after a successful start. */
  get failed(): Promise<ProcessFailed> {
    return this.#failed.promise;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get port(): number | null {
    return this.#port;
  }

  /** One line on the stdin of the process; lost where there is none. */
  tell(message: object): void {
    this.#child?.tell(message);
  }

  /** Starts it and waits until it is ready. A first start that fails is not repeated: throws ProcessFailed. */
  async start(): Promise<{ port: number }> {
    const child = await this.#launch();
    if (!child || this.#port === null) {
      const words = this.#child?.lastWords || 'it said nothing';
      this.#state('failed', words);
      throw new ProcessFailed('start_failed', `The ${this.#options.name} process could not start: ${words}`);
    }
    this.#loop = this.#keep(child);
    return { port: this.#port };
  }

  /** Ends it for good: SIGTERM, a bound, SIGKILL. Safe to repeat, and at any time. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#child?.stop(this.#options.stopLimitMs);
    await this.#loop;
    this.#state('stopped', '');
  }

  /** SIGKILL at once, for the second Ctrl-C. */
  kill(): void {
    this.#stopped.abort();
    this.#child?.kill();
  }

  /** One start; null when it ended before it was ready. */
  async #launch(): Promise<Child | null> {
    if (this.#stopped.signal.aborted) return null;
    this.#state('loading', '');
    const ready = Promise.withResolvers<'ready'>();
    const child = new Child(this.#options, this.#options.section(this.#port), {
      onMessage: (message) => {
        stalled.refresh();
        if (message.type === 'progress') this.#options.onProgress?.(message);
        if (message.type === 'memory') this.#options.onMemory?.(message.rssBytes);
        if (message.type === 'pools') this.#options.onAnnounced?.();
        if (message.type !== 'ready') return;
        this.#port = message.port;
        ready.resolve('ready');
      },
      onStderr: (line) => this.#options.onStderr?.(line),
    });
    const stalled = setTimeout(() => child.kill(), this.#options.stallLimitMs ?? DEFAULT_STALL_LIMIT_MS);
    this.#child = child;
    const first = await Promise.race([ready.promise, child.exited]);
    clearTimeout(stalled);
    return first === 'ready' ? child : null;
  }

  /** Watches a ready process, and replaces it until stopped or given up. */
  async #keep(first: Child): Promise<void> {
    let child: Child | null = first;
    while (!this.#stopped.signal.aborted) {
      if (child) await this.#watch(child);
      if (this.#stopped.signal.aborted) return;
      const words = this.#child?.lastWords ?? '';
      const now = Date.now();
      this.#noteDeath(now);
      const next = nextRestart(this.#policy, this.#deaths, now);
      if (!next) return this.#giveUp(words);
      this.#state('restarting', words);
      await this.#sleep(next.delayMs);
      child = await this.#launch();
    }
  }

  /** Returns when the process is gone; kills it when it stops answering. */
  async #watch(child: Child): Promise<void> {
    const { intervalMs, failures } = this.#health;
    let unanswered = 0;
    let gone: Exit | null = null;
    const exited = child.exited.then((exit) => {
      gone = exit;
    });
    this.#state('ready', '');
    let ready = true;
    while (!gone) {
      await Promise.race([exited, this.#sleep(intervalMs)]);
      if (gone || this.#stopped.signal.aborted) break;
      const status = await this.#ask();
      unanswered = status === null ? unanswered + 1 : 0;
      if (unanswered >= failures) child.kill();
      if (status !== null && ready !== (status === 200)) {
        ready = status === 200;
        this.#state(ready ? 'ready' : 'unready', '');
      }
    }
    await exited;
  }

  /** HTTP status of the health check; null when nobody answers in time. */
  #ask(): Promise<number | null> {
    const { path, timeoutMs, scheme } = this.#health;
    const { host } = this.#options;
    return healthStatus(`${scheme}://${host.includes(':') ? `[${host}]` : host}:${this.#port}${path}`, timeoutMs);
  }

  get #health(): HealthCheck {
    return this.#options.health ?? POOL_HEALTH;
  }

  get #policy(): RestartPolicy {
    return this.#options.restart ?? DEFAULT_RESTART_POLICY;
  }

  #noteDeath(now: number): void {
    this.#deaths.push(now);
    if (this.#deaths.length > this.#policy.maxDeaths) this.#deaths.shift();
  }

  #giveUp(words: string): void {
    const { name } = this.#options;
    const error = new ProcessFailed('crash_loop', `The ${name} process died ${this.#policy.maxDeaths} times: ${words}`);
    this.#state('failed', error.message);
    this.#failed.resolve(error);
  }

  async #sleep(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#stopped.signal }).catch(() => {});
  }

  #state(state: SupervisorState, detail: string): void {
    this.#options.onState?.(state, detail);
  }
}
