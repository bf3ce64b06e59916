// The operator's public prefixes, and that every pool has them: those of the configuration and those that were declared, in memory as
// one set. A pool whose status tells another digest than the set's gets the set pushed: after its start, after a change, after a push
// that failed. No request waits for any of it; until then its prompts are merely computed.
import { createHash } from 'node:crypto';
import type { PoolStatus } from '../../pool/wire/events.ts';
import {
  contentOf,
  declarationBytes,
  digestOfSet,
  PREFIX_LIMITS,
  type PrefixDeclaration,
  type PrefixReport,
  type PrefixSet,
  type PublicPrefix,
} from '../../pool/wire/publicPrefixes.ts';
import type { PrefixStore } from '../directory/publicPrefixes.ts';
import { deriveCache } from '../keys/cacheScope.ts';
import type { Keyring } from '../keys/keyring.ts';
import { errorFields, type Log } from '../log.ts';
import type { Turns } from '../turns.ts';
import type { PoolState } from './poolRegistry.ts';

export interface KnownPrefix {
  prefix: PublicPrefix;
  source: 'configuration' | 'api';
  createdAtMs: number | null;
}

/** Sets kept by what their pools serve: as many as pools, at most. */
const MAX_KEPT_SETS = 256;

interface Digested {
  set: PrefixSet;
  digest: string;
}

export class PublicPrefixes {
  readonly #store: PrefixStore;
  readonly #configured: readonly KnownPrefix[];
  readonly #seal: string;
  readonly #log: Log;
  readonly #reports = new Map<string, Map<string, PrefixReport>>();
  readonly #turns: Turns;
  /** By the models they are for: each status of a pool asks, and naming a set of megabytes takes 20 ms. Emptied by every change. */
  readonly #sets = new Map<string, Digested>();
  #declared: KnownPrefix[] = [];

  constructor(
    store: PrefixStore,
    configured: readonly PrefixDeclaration[],
    { cacheSecret }: Keyring,
    log: Log,
    turns: Turns,
  ) {
    this.#store = store;
    this.#configured = configured.map((declaration) => ({
      prefix: { id: idOf(declaration), ...declaration },
      source: 'configuration',
      createdAtMs: null,
    }));
    // The operator's own: declared content is public, so that no salt has to be destroyed.
    this.#seal = deriveCache(cacheSecret, new Uint8Array(0), 'public').seal;
    this.#log = log;
    this.#turns = turns;
  }

  /** Before the first use, and wherever another process may have changed the store. */
  async load(): Promise<void> {
    const stored = await this.#store.prefixes();
    this.#change(stored.map(({ prefix, createdAtMs }) => ({ prefix, createdAtMs, source: 'api' })));
    const leftOut = this.all.length - withinLimits(this.all.map(({ prefix }) => prefix)).length;
    if (leftOut > 0) this.#log.warn('public_prefixes_over_limits', { left_out: leftOut, ...PREFIX_LIMITS });
  }

  get all(): readonly KnownPrefix[] {
    return [...this.#configured, ...this.#declared];
  }

  /** What became of it at each pool that has been told. */
  reports(id: string): { pool: string; report: PrefixReport }[] {
    return [...this.#reports].flatMap(([pool, reports]) => {
      const report = reports.get(id);
      return report ? [{ pool, report }] : [];
    });
  }

  async add(prefix: PublicPrefix, createdAtMs: number): Promise<void> {
    await this.#store.addPrefix({ prefix, createdAtMs });
    this.#change([...this.#declared, { prefix, createdAtMs, source: 'api' }]);
  }

  /** False when none was declared with this id. */
  async delete(id: string): Promise<boolean> {
    const existed = await this.#store.deletePrefix(id);
    this.#change(this.#declared.filter(({ prefix }) => prefix.id !== id));
    return existed;
  }

  /** Of the models that a pool serves: as many as a pool takes, the configured ones first. */
  setFor(models: ReadonlySet<string>): PrefixSet {
    return this.#digested(models).set;
  }

  #digested(models: ReadonlySet<string>): Digested {
    const key = JSON.stringify([...models].sort());
    let known = this.#sets.get(key);
    if (!known) {
      const prefixes = withinLimits(this.all.map(({ prefix }) => prefix)).filter(({ model }) => models.has(model));
      const set = { seal: this.#seal, prefixes };
      known = { set, digest: digestOfSet(set) };
      if (this.#sets.size >= MAX_KEPT_SETS) this.#sets.clear();
      this.#sets.set(key, known);
    }
    return known;
  }

  #change(declared: KnownPrefix[]): void {
    this.#declared = declared;
    this.#sets.clear();
  }

  /** Pushes the set where the pool has another one. Never rejects: the next status shows what is missing. */
  publish(pool: PoolState): Promise<void> {
    const { id } = pool.client.target;
    return this.#turns
      .run(id, () => this.#publish(pool))
      .catch((error: unknown) => this.#log.warn('public_prefixes_failed', { pool: id, ...errorFields(error) }));
  }

  /** The set that a pool lacks; null: it has told that it has it, or told nothing yet. */
  #missing(status: PoolStatus | null): PrefixSet | null {
    if (!status) return null;
    const { set, digest: wanted } = this.#digested(new Set(status.models.map(({ id }) => id)));
    if (status.public_prefixes === wanted) return null;
    return status.public_prefixes === null && set.prefixes.length === 0 ? null : set;
  }

  isBehind({ status }: PoolState): boolean {
    return this.#missing(status) !== null;
  }

  async #publish({ client, status }: PoolState): Promise<void> {
    const set = this.#missing(status);
    if (!status || !set) return;
    const { digest, prefixes } = await client.setPublicPrefixes(set);
    status.public_prefixes = digest;
    this.#reports.set(client.target.id, new Map(prefixes.map((report) => [report.id, report])));
    const refused = prefixes.filter(({ state }) => state === 'refused');
    this.#log.info('public_prefixes_pushed', { pool: client.target.id, prefixes: prefixes.length });
    for (const { id, reason } of refused)
      this.#log.warn('public_prefix_refused', { pool: client.target.id, prefix: id, reason: reason ?? '' });
  }
}

/** The first that fit: a configuration that grew over what is declared must not keep pools from all of it. */
function withinLimits(prefixes: readonly PublicPrefix[]): PublicPrefix[] {
  let bytes = 0;
  return prefixes.slice(0, PREFIX_LIMITS.prefixes).filter((prefix) => {
    const own = declarationBytes(prefix);
    if (bytes + own > PREFIX_LIMITS.setBytes) return false;
    bytes += own;
    return true;
  });
}

/** The same declaration has the same id at every start. */
function idOf(declaration: PrefixDeclaration): string {
  return `prefix_${createHash('sha256').update(contentOf(declaration)).digest('hex').slice(0, 24)}`;
}
