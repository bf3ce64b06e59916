// One client's exchange while it lasts: its place among those served at once, and the one signal that ends it, whether the client
// leaves or the host must stop. Finishing gives both back, exactly once.
import { overloaded } from '../errors.ts';
import { Leases, type Release } from '../leases.ts';

/** Requests at pools at once: each holds a connection and buffers. Past it a request is refused, not queued. */
export class ConcurrencyLimit {
  readonly most: number;
  readonly running = new Leases();

  constructor(most: number) {
    this.most = most;
  }
}

export class Exchange {
  readonly #release: Release;
  readonly #sources: readonly AbortSignal[];
  readonly #controller = new AbortController();
  readonly #abort = () => this.abort();
  readonly #atEnd: (() => void)[] = [];
  #finished = false;

  /** Over at `untilMs` at the latest. Throws GatewayError (503) when the limit is reached. */
  constructor(limit: ConcurrencyLimit, nowMs: number, untilMs: number, sources: readonly AbortSignal[]) {
    if (limit.running.count(nowMs) >= limit.most)
      throw overloaded(`The gateway serves ${limit.most} requests already. Retry.`, 1000);
    this.#release = limit.running.take(untilMs);
    this.#sources = sources;
    for (const source of sources) {
      if (source.aborted) this.abort();
      source.addEventListener('abort', this.#abort, { once: true });
    }
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
    for (const work of this.#atEnd) work();
    for (const source of this.#sources) source.removeEventListener('abort', this.#abort);
  }
}
