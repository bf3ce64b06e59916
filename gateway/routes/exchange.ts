// One client's exchange while it lasts: its place among those served at once, and the one signal that ends it, whether the client
// leaves or the host must stop. Finishing gives both back, exactly once.
import { overloaded } from '../errors.ts';

/** Requests at pools at once: each holds a connection and buffers. Past it a request is refused, not queued. */
export class ConcurrencyLimit {
  readonly most: number;
  running = 0;

  constructor(most: number) {
    this.most = most;
  }
}

export class Exchange {
  readonly #limit: ConcurrencyLimit;
  readonly #sources: readonly AbortSignal[];
  readonly #controller = new AbortController();
  readonly #abort = () => this.abort();
  #finished = false;

  /** Throws GatewayError (503) when the limit is reached. */
  constructor(limit: ConcurrencyLimit, sources: readonly AbortSignal[]) {
    if (limit.running >= limit.most)
      throw overloaded(`The gateway serves ${limit.most} requests already. Retry.`, 1000);
    this.#limit = limit;
    limit.running += 1;
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

  finish(): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#limit.running -= 1;
    for (const source of this.#sources) source.removeEventListener('abort', this.#abort);
  }
}
