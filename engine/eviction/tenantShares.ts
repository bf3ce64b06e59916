// Who shares the cache, and what is due to each: fair shares of the capacity by weight among the accounts that were served lately, and
// floors, scaled down together where they are more than the whole. Knows counts, no blocks.
import type { BlockList } from './blockList.ts';
import type { CacheAccount } from './policy.ts';
import type { ShadowCache } from './shadowCache.ts';

/** An account that was not served for so many turnovers of the cache is idle: nothing is due to it. Long, as small tenants come rarely. */
const ACTIVE_TURNOVERS = 8;
/** Idle accounts are looked for that often in a turnover. */
const SWEEPS_PER_TURNOVER = 16;
/** Accounts without blocks whose weight and floor are remembered; told again, one that was forgotten is as before. */
export const MAX_IDLE_ACCOUNTS = 1_024;

/** Down to whole blocks; what a rounding error keeps from being whole is. */
const wholeBlocks = (blocks: number) => Math.floor(blocks + 1e-6);

export interface Tenant extends CacheAccount {
  /** Blocks admitted and not removed, in use or not. */
  heldBlocks: number;
  /** Of the capacity, by weight among those active; 0 while idle. */
  shareBlocks: number;
  /** Below or at this, others' demand takes nothing. */
  floorBlocks: number;
  servedAt: number;
  isActive: boolean;
  /** What it would hold alone on its share; null where that is not watched. */
  shadow: ShadowCache | null;
  /** Hits beyond those that it would have had alone, in blocks; below 0 what it is owed. */
  creditBlocks: number;
  /** Hits of the shadow. */
  owedHits: number;
  /** Leaves that are kept out of the choice of who leaves. */
  withheld: BlockList;
}

export class TenantShares {
  readonly #capacityBlocks: number;
  readonly #makeList: () => BlockList;
  readonly #onShare: (tenant: Tenant) => void;
  /** In order of the last service, longest ago first. */
  readonly #tenants = new Map<string, Tenant>();
  activeCount = 0;
  #sweepAt = 0;

  /** `onShare` is told of each account that becomes active or idle, or whose share changes. */
  constructor(capacityBlocks: number, makeList: () => BlockList, onShare: (tenant: Tenant) => void) {
    this.#capacityBlocks = capacityBlocks;
    this.#makeList = makeList;
    this.#onShare = onShare;
  }

  get tenants(): Iterable<Tenant> {
    return this.#tenants.values();
  }

  tell({ name, weight, floorShare }: CacheAccount): void {
    const tenant = this.open(name);
    if (tenant.weight === weight && tenant.floorShare === floorShare) return;
    tenant.weight = weight;
    tenant.floorShare = floorShare;
    if (tenant.isActive) this.#share();
  }

  open(name: string): Tenant {
    const known = this.#tenants.get(name);
    if (known) return known;
    const tenant: Tenant = {
      name,
      weight: 1,
      floorShare: 0,
      heldBlocks: 0,
      shareBlocks: 0,
      floorBlocks: 0,
      servedAt: 0,
      isActive: false,
      shadow: null,
      creditBlocks: 0,
      owedHits: 0,
      withheld: this.#makeList(),
    };
    this.#tenants.set(name, tenant);
    if (this.#tenants.size - this.activeCount > MAX_IDLE_ACCOUNTS) this.#forgetOne(tenant);
    return tenant;
  }

  /** A block is served to the account at tick `now`. */
  serve(tenant: Tenant, now: number): void {
    tenant.servedAt = now;
    if (!tenant.isActive) {
      tenant.isActive = true;
      this.#share();
    }
    if (now >= this.#sweepAt) this.#sweep(now);
  }

  #sweep(now: number): void {
    this.#sweepAt = now + Math.max(1, Math.floor(this.#capacityBlocks / SWEEPS_PER_TURNOVER));
    let changed = false;
    for (const tenant of this.#tenants.values()) {
      if (!tenant.isActive || now - tenant.servedAt <= ACTIVE_TURNOVERS * this.#capacityBlocks) continue;
      tenant.isActive = false;
      changed = true;
    }
    if (changed) this.#share();
  }

  #share(): void {
    let weights = 0;
    let floors = 0;
    this.activeCount = 0;
    for (const tenant of this.#tenants.values()) {
      if (!tenant.isActive) continue;
      this.activeCount += 1;
      weights += tenant.weight;
      floors += tenant.floorShare;
    }
    const scale = this.#capacityBlocks / Math.max(1, floors);
    for (const tenant of this.#tenants.values()) {
      const share = tenant.isActive ? wholeBlocks((this.#capacityBlocks * tenant.weight) / weights) : 0;
      tenant.floorBlocks = tenant.isActive ? wholeBlocks(tenant.floorShare * scale) : 0;
      if (share === tenant.shareBlocks) continue;
      tenant.shareBlocks = share;
      this.#onShare(tenant);
    }
  }

  #forgetOne(except: Tenant): void {
    for (const tenant of this.#tenants.values()) {
      if (tenant === except || tenant.isActive || tenant.heldBlocks > 0) continue;
      this.#tenants.delete(tenant.name);
      return;
    }
  }
}
