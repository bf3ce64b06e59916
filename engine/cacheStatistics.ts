// What the cache did, and for whom: blocks by account and state, tokens hit, who evicted whom, how long blocks lived and lay unused.
// It decides nothing. Memory is bounded: accounts that hold something are as many as blocks and tables at most, of the others the
// last MAX_IDLE_ACCOUNTS are remembered; older ones add up in `other`.
import { invariant } from './invariant.ts';
import { type HistogramStatus, Log2Histogram } from './log2Histogram.ts';

/** Accounts without a block or a table that keep their figures: a few times the tenants of a busy pool. */
export const MAX_IDLE_ACCOUNTS = 256;

/** Accounts for which an account's evictions are told apart: those after them are counted as `other`. */
export const MAX_EVICTED_ACCOUNTS = 64;

/** The account that stands for all that are not told apart. No tenant's name has a space. */
export const OTHER_ACCOUNTS = 'all other';

export class AccountUse {
  readonly name: string;
  /** Open block tables. */
  tables = 0;
  /** Blocks that a sequence uses, and blocks that only the index keeps. */
  inUse = 0;
  cached = 0;
  /** Tokens that admitted requests knew, and how many of them the cache answered; `copiedTokens` of these by copy-on-write. */
  askedTokens = 0;
  hitTokens = 0;
  copiedTokens = 0;
  /** Blocks that left because of this account's need, by the account that they were of. */
  readonly evicted = new Map<string, number>();
  /** The same in sum; and its own blocks that left because of anybody's need. */
  evictingBlocks = 0;
  evictedBlocks = 0;

  constructor(name: string) {
    this.name = name;
  }

  get held(): number {
    return this.inUse + this.cached;
  }

  get idle(): boolean {
    return this.tables === 0 && this.inUse === 0 && this.cached === 0;
  }

  /** A block of `from` leaves because of this account's need. */
  evicts(from: AccountUse): void {
    this.evictingBlocks += 1;
    from.evictedBlocks += 1;
    this.#countPair(from.name, 1);
  }

  #countPair(from: string, blocks: number): void {
    const known = this.evicted.has(from) || this.evicted.size < MAX_EVICTED_ACCOUNTS;
    const name = known ? from : OTHER_ACCOUNTS;
    this.evicted.set(name, (this.evicted.get(name) ?? 0) + blocks);
  }

  /** Adds the figures that outlast blocks. */
  absorb(other: AccountUse): void {
    this.askedTokens += other.askedTokens;
    this.hitTokens += other.hitTokens;
    this.copiedTokens += other.copiedTokens;
    this.evictingBlocks += other.evictingBlocks;
    this.evictedBlocks += other.evictedBlocks;
    for (const [from, blocks] of other.evicted) this.#countPair(from, blocks);
  }
}

export interface AccountStatus {
  account: string;
  inUse: number;
  cached: number;
  askedTokens: number;
  hitTokens: number;
  copiedTokens: number;
  /** Blocks that left because of its need, whosever they were; blocks of its own that left because of anybody's. */
  evictingBlocks: number;
  evictedBlocks: number;
}

export interface EvictionPair {
  evicting: string;
  evicted: string;
  blocks: number;
}

export interface CacheStatisticsStatus {
  /** Those that hold most, then `other` with the rest. */
  accounts: AccountStatus[];
  evictionPairs: EvictionPair[];
  /** Between two uses of a cached block, and from its entering the index to its leaving: in blocks served and in milliseconds. */
  reuseGapBlocks: HistogramStatus;
  reuseGapMs: HistogramStatus;
  lifetimeBlocks: HistogramStatus;
  lifetimeMs: HistogramStatus;
}

export class CacheStatistics {
  /** Whoever holds something, and the last idle ones, in order of becoming idle. */
  readonly #accounts = new Map<string, AccountUse>();
  readonly #idle = new Set<AccountUse>();
  readonly #other = new AccountUse(OTHER_ACCOUNTS);
  /** Blocks served so far, modulo 2^32: the time of a block's entering and of its last use, [capacityBlocks]. */
  #served = 0;
  readonly #enteredAt: Uint32Array;
  readonly #usedAt: Uint32Array;
  /** The same in milliseconds modulo 2^32: right for gaps of up to 49 days. */
  readonly #enteredAtMs: Uint32Array;
  readonly #usedAtMs: Uint32Array;
  readonly #reuseGapBlocks = new Log2Histogram();
  readonly #reuseGapMs = new Log2Histogram();
  readonly #lifetimeBlocks = new Log2Histogram();
  readonly #lifetimeMs = new Log2Histogram();

  constructor(capacityBlocks: number) {
    this.#enteredAt = new Uint32Array(capacityBlocks);
    this.#usedAt = new Uint32Array(capacityBlocks);
    this.#enteredAtMs = new Uint32Array(capacityBlocks);
    this.#usedAtMs = new Uint32Array(capacityBlocks);
  }

  /** The account's figures; a table is open from now on. */
  open(name: string): AccountUse {
    let use = this.#accounts.get(name);
    if (!use) {
      use = new AccountUse(name);
      this.#accounts.set(name, use);
    }
    this.#idle.delete(use);
    use.tables += 1;
    return use;
  }

  close(use: AccountUse): void {
    invariant(use.tables > 0, 'an open table is closed once');
    use.tables -= 1;
    this.rest(use);
  }

  /** Whoever calls has taken a block or a table from the account: it may hold nothing any more. */
  rest(use: AccountUse): void {
    if (!use.idle) return;
    this.#idle.add(use);
    if (this.#idle.size <= MAX_IDLE_ACCOUNTS) return;
    const [oldest] = this.#idle;
    this.#idle.delete(oldest!);
    this.#accounts.delete(oldest!.name);
    this.#other.absorb(oldest!);
  }

  entered(block: number, nowMs: number): void {
    this.#served = (this.#served + 1) >>> 0;
    this.#enteredAt[block] = this.#served;
    this.#usedAt[block] = this.#served;
    this.#enteredAtMs[block] = nowMs;
    this.#usedAtMs[block] = nowMs;
  }

  reused(block: number, nowMs: number): void {
    this.#served = (this.#served + 1) >>> 0;
    this.#reuseGapBlocks.add((this.#served - this.#usedAt[block]!) >>> 0);
    this.#reuseGapMs.add((nowMs - this.#usedAtMs[block]!) >>> 0);
    this.#usedAt[block] = this.#served;
    this.#usedAtMs[block] = nowMs;
  }

  left(block: number, nowMs: number): void {
    this.#lifetimeBlocks.add((this.#served - this.#enteredAt[block]!) >>> 0);
    this.#lifetimeMs.add((nowMs - this.#enteredAtMs[block]!) >>> 0);
  }

  /** Every account that holds something. For self-checks. */
  *holders(): Generator<AccountUse> {
    for (const use of this.#accounts.values()) if (!use.idle) yield use;
  }

  /** `most` accounts and pairs are told apart. */
  status(most: number): CacheStatisticsStatus {
    const byHeld = [...this.#accounts.values()].sort((a, b) => b.held - a.held || b.askedTokens - a.askedTokens);
    const named = byHeld.slice(0, most);
    const rest = new AccountUse(OTHER_ACCOUNTS);
    rest.absorb(this.#other);
    for (const use of byHeld.slice(most)) {
      rest.absorb(use);
      rest.inUse += use.inUse;
      rest.cached += use.cached;
    }
    const told = rest.held + rest.askedTokens + rest.evictedBlocks > 0 ? [...named, rest] : named;
    return {
      accounts: told.map(
        ({ name, inUse, cached, askedTokens, hitTokens, copiedTokens, evictingBlocks, evictedBlocks }) => ({
          ...{ account: name, inUse, cached, askedTokens, hitTokens, copiedTokens, evictingBlocks, evictedBlocks },
        }),
      ),
      evictionPairs: told
        .flatMap((use) => [...use.evicted].map(([evicted, blocks]) => ({ evicting: use.name, evicted, blocks })))
        .sort((a, b) => b.blocks - a.blocks)
        .slice(0, most * most),
      reuseGapBlocks: this.#reuseGapBlocks.status(),
      reuseGapMs: this.#reuseGapMs.status(),
      lifetimeBlocks: this.#lifetimeBlocks.status(),
      lifetimeMs: this.#lifetimeMs.status(),
    };
  }
}
