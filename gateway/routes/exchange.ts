// One client's exchange while it lasts: its place among those served at once, and the one signal that ends it, whether the client
// leaves or the host must stop. Finishing gives both back, exactly once.
import { overloaded } from '../errors.ts';
import { Leases, type Release } from '../leases.ts';

/** Requests at pools at once: each holds a connection and buffers. Past it a request is refused, not queued. */
export class ConcurrencyLimit {
  readonly most: number;
  readonly running = new Leases();
  readonly #hangUp: AbortSignal | null;
  readonly #exchanges = new Set<Exchange>();

  /** `hangUp`: the host must stop, and with it every exchange; null: it never must. */
  constructor(most: number, hangUp: AbortSignal | null) {
    this.most = most;
    this.#hangUp = hangUp;
    // One listener for all of them: to add or remove one a signal goes through those that it has.
    hangUp?.addEventListener('abort', () => this.#abortAll(), { once: true });
  }

  /** Until what is returned is called, it is aborted when the host must stop. */
  guard(exchange: Exchange): Release {
    if (this.#hangUp === null) return () => {};
    if (this.#hangUp.aborted) exchange.abort();
    this.#exchanges.add(exchange);
    return () => void this.#exchanges.delete(exchange);
  }

  #abortAll(): void {
    for (const exchange of this.#exchanges) exchange.abort();
  }
}

export class Exchange {
  readonly #release: Release;
  readonly #unguard: Release;
  readonly #client: AbortSignal;
  readonly #controller = new AbortController();
  readonly #abort = () => this.abort();
  readonly #atEnd: (() => void)[] = [];
  #finished = false;

  /** `client`: it left. Over at `untilMs` at the latest. Throws GatewayError (503) when the limit is reached. */
  constructor(limit: ConcurrencyLimit, nowMs: number, untilMs: number, client: AbortSignal) {
    if (limit.running.count(nowMs) >= limit.most)
      throw overloaded(`The gateway serves ${limit.most} requests already. Retry.`, 1000);
    this.#release = limit.running.take(untilMs);
    this.#client = client;
    if (client.aborted) this.abort();
    client.addEventListener('abort', this.#abort, { once: true });
    this.#unguard = limit.guard(this);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  abort(): void {
    this.#controller.abort();
  }

  /** To be done when it is finished, however it ends. */
  atEnd(work: () => void): void {
    this.#atEnd.push(work);
  }

  finish(): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#release();
    this.#unguard();
    for (const work of this.#atEnd) work();
    this.#client.removeEventListener('abort', this.#abort);
  }
}
