// One cache for many tenants: the inner policy chooses who leaves, wherever that takes nothing from anybody that is due to him. Due are
//
//   a floor      while an account is active and holds no more than its floor, nothing of it leaves as long as another account that is above its
//                own floor has a leaf to give;
//   a fair share an account that has had fewer hits than it would have had alone on its share (a shadow cache tells) keeps
//                what it would hold there, until it is ahead again. Who is ahead lends the rest of his share.
//
// Shares sum to the capacity, hence there is always something that is due to nobody. Leaves that are due to their owner are withheld from
// the inner policy when they come up as its choice, and come back when they are due no longer. docs/eviction.md has the reasoning.
import { invariant } from '../invariant.ts';
import { BlockLinks, BlockList } from './blockList.ts';
import type { BlockFacts, CacheAccount, EvictionPolicy } from './policy.ts';
import { ShadowCache } from './shadowCache.ts';
import { type Tenant, TenantShares } from './tenantShares.ts';

/** Not even so far ahead, in shares, an account keeps all that it would hold alone, also while it holds more blocks than its share. */
const NARROW_MARGIN_SHARES = 0.03;
/** The one account of a cache that has no others. */
const SOLE_ACCOUNT = '';
/** Accounts whose shadow is kept, first come first served: memory. Of the others the share itself is kept, and nothing lent. */
const MAX_SHADOWS = 16;
/** A shadow is built anew when its account's share has become so many times what it was built for. */
const SHADOW_GROWTH = 2;
/** Credit is counted up to one share: what somebody gained long ago does not make up for a loss now. */
const MAX_CREDIT_SHARES = 1;
/** Withheld leaves that may come back with each block served: as many as can leave in that time, and one more. */
const RELEASES_PER_BLOCK = 2;

export interface MultiTenantOptions {
  inner: EvictionPolicy;
  /** What an account would run alone on its share. */
  makeAlone: (capacityBlocks: number) => EvictionPolicy;
  /** So far ahead, in shares, a tenant must be to lend. The more, the less can be lost before the guarantee sets in. */
  lendingMargin: number;
  /** Credit and debt fade with this time constant, in turnovers of a share: the inner policy gets another chance. By default they don't. */
  debtTurnovers?: number;
  /** All blocks are of one account, and the guarantee is to it: for a policy that must never be worse than another one. */
  isSole?: boolean;
}

export class MultiTenantEviction implements EvictionPolicy {
  readonly name: string;
  readonly #inner: EvictionPolicy;
  readonly #options: MultiTenantOptions;
  readonly #shares: TenantShares;
  readonly #owner: (Tenant | null)[];
  readonly #facts: (BlockFacts | null)[];
  /** Whether the block is a leaf that may leave, and whether the inner policy knows of it: 0 no, 1 yes, 2 withheld. */
  readonly #state: Uint8Array;
  #now = 0;
  #size = 0;
  #shadows = 0;

  constructor(capacityBlocks: number, name: string, options: MultiTenantOptions) {
    this.name = name;
    this.#inner = options.inner;
    this.#options = options;
    const links = new BlockLinks(capacityBlocks);
    this.#shares = new TenantShares(
      capacityBlocks,
      () => new BlockList(links),
      (tenant) => this.#fitShadow(tenant),
    );
    this.#owner = new Array<Tenant | null>(capacityBlocks).fill(null);
    this.#facts = new Array<BlockFacts | null>(capacityBlocks).fill(null);
    this.#state = new Uint8Array(capacityBlocks);
  }

  get size(): number {
    return this.#size;
  }

  /** The accounts with what they hold and what is due to them. */
  get tenants(): Iterable<Readonly<Tenant>> {
    return this.#shares.tenants;
  }

  account(account: CacheAccount): void {
    if (!this.#options.isSole) this.#shares.tell(account);
  }

  admit(block: number, facts: BlockFacts): void {
    const tenant = this.#shares.open(this.#options.isSole ? SOLE_ACCOUNT : facts.account);
    this.#owner[block] = tenant;
    this.#facts[block] = facts;
    tenant.heldBlocks += 1;
    this.#inner.admit(block, facts);
    this.#serve(tenant, block, facts, 0);
  }

  reuse(block: number, freshBlocks: number): void {
    this.#inner.reuse(block, freshBlocks);
    this.#serve(this.#owner[block]!, block, this.#facts[block]!, 1);
  }

  touch(block: number): void {
    this.#inner.touch(block);
  }

  insert(block: number): void {
    this.#inner.insert(block);
    this.#state[block] = 1;
    this.#size += 1;
  }

  delete(block: number): void {
    if (this.#state[block] === 2) this.#owner[block]!.withheld.delete(block);
    else this.#inner.delete(block);
    this.#state[block] = 0;
    this.#size -= 1;
  }

  remove(block: number): void {
    this.#inner.remove(block);
    this.#owner[block]!.heldBlocks -= 1;
    this.#owner[block] = null;
    this.#facts[block] = null;
  }

  /** Each leaf is withheld at most once for each time it comes back: O(1) amortised, beside the inner policy's. */
  victim(account: string): number {
    for (let block = this.#inner.victim(account); block >= 0; block = this.#inner.victim(account)) {
      const owner = this.#owner[block]!;
      if (!this.#isDue(owner, block)) return block;
      this.#inner.delete(block);
      owner.withheld.push(block);
      this.#state[block] = 2;
    }
    return this.#leastDue();
  }

  #isAtFloor(tenant: Tenant): boolean {
    return tenant.heldBlocks <= tenant.floorBlocks;
  }

  /** Whether the block must stay with its owner while another may give one. */
  #isDue(tenant: Tenant, block: number): boolean {
    if (!tenant.isActive) return false;
    if (this.#isAtFloor(tenant)) return true;
    if (this.#shares.activeCount === 1 && !this.#options.isSole) return false;
    if (!tenant.shadow) return tenant.heldBlocks <= tenant.shareBlocks;
    return this.#isOwed(tenant) && tenant.shadow.holds(this.#facts[block]!.digest);
  }

  /** One that would have no hits alone either loses nothing. */
  #isOwed({ owedHits, creditBlocks, shareBlocks, heldBlocks }: Tenant): boolean {
    if (owedHits === 0 || creditBlocks >= this.#options.lendingMargin * shareBlocks) return false;
    return heldBlocks <= shareBlocks || creditBlocks < NARROW_MARGIN_SHARES * shareBlocks;
  }

  /** All leaves are due to somebody: one of the account most over its share, and only then at its floor when all are. */
  #leastDue(): number {
    let from: Tenant | null = null;
    for (const tenant of this.#shares.tenants)
      if (tenant.withheld.size > 0 && (from === null || this.#givesBefore(tenant, from))) from = tenant;
    if (!from) return -1;
    // What it would give up alone, if that is here and may leave.
    const next = from.shadow?.next;
    if (
      next &&
      this.#state[next.block] === 2 &&
      this.#facts[next.block]?.digest === next.digest &&
      this.#owner[next.block] === from
    )
      return next.block;
    return from.withheld.first;
  }

  #givesBefore(a: Tenant, b: Tenant): boolean {
    const [atFloorA, atFloorB] = [this.#isAtFloor(a), this.#isAtFloor(b)];
    if (atFloorA !== atFloorB) return atFloorB;
    return a.heldBlocks / a.weight > b.heldBlocks / b.weight;
  }

  #serve(tenant: Tenant, block: number, facts: BlockFacts, hit: 0 | 1): void {
    this.#now += 1;
    this.#shares.serve(tenant, this.#now);
    const { shadow } = tenant;
    if (shadow) {
      // What hangs off another account's block, a public prefix, begins a sequence of its own here: alone, the prefix would be there too.
      const isFirst = facts.parent < 0 || this.#owner[facts.parent] !== tenant;
      const parentDigest = isFirst ? null : this.#facts[facts.parent]!.digest;
      const owed = shadow.use(block, parentDigest, facts) ? 1 : 0;
      tenant.owedHits += owed;
      const { debtTurnovers = Number.POSITIVE_INFINITY } = this.#options;
      const faded = tenant.creditBlocks * (1 - 1 / (debtTurnovers * Math.max(1, tenant.shareBlocks)));
      const most = MAX_CREDIT_SHARES * tenant.shareBlocks;
      tenant.creditBlocks = Math.max(-most, Math.min(most, faded + hit - owed));
    }
    for (let i = 0; i < RELEASES_PER_BLOCK; i++) {
      const { first } = tenant.withheld;
      if (first < 0 || this.#isDue(tenant, first)) break;
      this.#release(tenant, first);
    }
  }

  #release(tenant: Tenant, block: number): void {
    invariant(this.#state[block] === 2, 'only a withheld leaf comes back', { block });
    tenant.withheld.delete(block);
    this.#state[block] = 1;
    this.#inner.insert(block);
  }

  /** The share of an account has changed. */
  #fitShadow(tenant: Tenant): void {
    const { shareBlocks, shadow } = tenant;
    const isOutgrown = shadow !== null && shareBlocks >= SHADOW_GROWTH * shadow.slots;
    if (shadow && shareBlocks > 0 && !isOutgrown) {
      shadow.resize(Math.min(shareBlocks, shadow.slots));
      return;
    }
    if (shadow) {
      this.#shadows -= 1;
      tenant.shadow = null;
    }
    tenant.creditBlocks = 0;
    tenant.owedHits = 0;
    if (shareBlocks === 0 || this.#shadows === MAX_SHADOWS) return;
    this.#shadows += 1;
    tenant.shadow = new ShadowCache(shareBlocks, this.#options.makeAlone(shareBlocks), (block, digest) => {
      if (this.#state[block] !== 2 || this.#owner[block] !== tenant || this.#facts[block]?.digest !== digest) return;
      if (!this.#isAtFloor(tenant)) this.#release(tenant, block);
    });
  }
}
