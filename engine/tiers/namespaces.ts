// The namespaces that have blocks here or had a request lately, with their keys: in memory, and no longer than that. Pure; time comes in.
import { hash } from 'node:crypto';
import { NamespaceKeys } from './namespaceKeys.ts';
import type { CacheScope } from './port.ts';
import { Namespace } from './recordTree.ts';

/** From a request's last probe until its blocks are complete: a long prompt on a slow adapter takes minutes. */
const IDLE_MS = 900_000;
const SWEEP_INTERVAL_MS = 60_000;
/** Namespaces without a block here: a bound for a burst of requests that leave nothing. */
const MAX_IDLE = 16_384;

export class Namespaces {
  readonly #fingerprint: string;
  readonly #known = new Map<string, Namespace>();
  #sweptMs = Number.NEGATIVE_INFINITY;
  /** A sweep looks at all: the next one, where no time has passed, is when so many more are known that it costs each next to nothing. */
  #sweepAtSize = MAX_IDLE;

  constructor(fingerprint: string) {
    this.#fingerprint = fingerprint;
  }

  get size(): number {
    return this.#known.size;
  }

  get(name: string): Namespace | undefined {
    return this.#known.get(name);
  }

  /** The scope's namespace. One that came back with another key is another: `replaced` takes leave of the old one first. */
  of(scope: CacheScope, account: string, nowMs: number, replaced: (namespace: Namespace) => void): Namespace {
    const { namespace: name, sealKey } = scope;
    let namespace = this.#known.get(name);
    const same = namespace && (sealKey ? namespace.keys.isMadeOf(sealKey) : !namespace.sealed);
    if (namespace && !same) {
      replaced(namespace);
      namespace = undefined;
    }
    if (!namespace) {
      this.#sweep(nowMs);
      const keys = new NamespaceKeys(sealKey ?? unsealedSecret(name), name, this.#fingerprint);
      namespace = new Namespace(name, account, keys, sealKey !== null);
      this.#known.set(name, namespace);
    }
    namespace.probedMs = nowMs;
    return namespace;
  }

  delete(name: string): void {
    this.#known.delete(name);
  }

  #sweep(nowMs: number): void {
    const isSoon = nowMs >= this.#sweptMs && nowMs - this.#sweptMs < SWEEP_INTERVAL_MS;
    if (isSoon && this.#known.size < this.#sweepAtSize) return;
    this.#sweptMs = nowMs;
    const idle = [...this.#known.values()].filter(({ nodes }) => nodes.size === 0);
    idle.sort((a, b) => a.probedMs - b.probedMs);
    const surplus = idle.length - MAX_IDLE / 2;
    for (const [i, namespace] of idle.entries()) {
      // Where the clock was set back, a time to come counts as now.
      namespace.probedMs = Math.min(namespace.probedMs, nowMs);
      if (i < surplus || nowMs - namespace.probedMs > IDLE_MS) this.#known.delete(namespace.name);
    }
    this.#sweepAtSize = this.#known.size + MAX_IDLE / 2;
  }
}

/**
 * Seals nothing: what has no key stays in this process. But its ids are the same in every process, so that a tenant's sealed blocks which
 * hang off an unsealed public prefix are found again once that prefix is on the GPU.
 */
function unsealedSecret(name: string): Uint8Array {
  return hash('sha256', JSON.stringify(['hearth unsealed namespace 1', name]), 'buffer');
}
