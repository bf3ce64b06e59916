// An engine's own figures as the wire tells them: queue and cache of one tenant side by side, the largest tenants by name.

import type { Attribution, TenantUse } from '../engine/attribution.ts';
import type { BlockStatus } from '../engine/blockManager.ts';
import { OTHER_ACCOUNTS } from '../engine/cacheStatistics.ts';
import type { HistogramStatus } from '../engine/log2Histogram.ts';
import type { EngineStatus } from '../engine/request.ts';
import type { TierStatus, TiersStatus } from '../engine/tiers/port.ts';
import type { EngineDetail, TenantDetail, TiersDetail } from './wire/status.ts';

/** Figures of one engine as its thread tells them. Plain data. */
export interface EngineFigures {
  engine: string;
  status: EngineStatus;
  use: Attribution;
  cache: BlockStatus;
}

export interface PairPage {
  offset: number;
  limit: number;
}

export function engineDetailOf(models: readonly string[], figures: EngineFigures, page: PairPage): EngineDetail {
  const { status, cache } = figures;
  const { offset, limit } = page;
  return {
    models: [...models],
    running: status.running,
    waiting: status.waiting,
    waiting_tokens: status.waitingTokens,
    blocks: {
      total: status.blocksTotal,
      free: status.blocksFree,
      cached: status.blocksCached,
      used: status.blocksTotal - status.blocksFree - status.blocksCached,
    },
    wasted_positions: cache.wastedPositions,
    steps: status.steps,
    prompt_tokens: status.promptTokens,
    cached_tokens: status.cachedTokens,
    output_tokens: status.outputTokens,
    drafted_tokens: status.draftedTokens,
    accepted_draft_tokens: status.acceptedTokens,
    preemptions: status.preemptions,
    evictions: status.evictions,
    tenants: tenantsOf(figures),
    attribution: {
      pairs: cache.evictionPairs.slice(offset, offset + limit),
      has_more: cache.evictionPairs.length > offset + limit,
    },
    reuse_gap_ms: distributionOf(cache.reuseGapMs),
    lifetime_ms: distributionOf(cache.lifetimeMs),
    reuse_gap_blocks: distributionOf(cache.reuseGapBlocks),
    lifetime_blocks: distributionOf(cache.lifetimeBlocks),
  };
}

export function tiersDetailOf(tiers: TiersStatus | null): TiersDetail {
  if (!tiers) return null;
  const { ram, disk, misses, skippedCopies } = tiers;
  return {
    ram: tierOf(ram),
    disk: disk && { ...tierOf(disk), state: disk.state, troubles: disk.troubles, dropped: disk.dropped },
    missed_blocks: misses,
    skipped_copies: skippedCopies,
  };
}

/** Whoever is among the largest in the queue's figures or in the cache's is named; the last row is everybody else. */
function tenantsOf({ use, cache }: EngineFigures): TenantDetail[] {
  const rows = new Map<string | null, TenantDetail>();
  const row = (tenant: string | null) => {
    const known = rows.get(tenant) ?? { ...NOTHING, tenant };
    rows.set(tenant, known);
    return known;
  };
  for (const { tenant, weight, ...queue } of use.tenants) Object.assign(row(tenant), { weight }, queueOf(queue));
  for (const { account, ...held } of cache.accounts)
    Object.assign(row(account === OTHER_ACCOUNTS ? null : account), {
      blocks_used: held.inUse,
      blocks_cached: held.cached,
      asked_tokens: held.askedTokens,
      hit_tokens: held.hitTokens,
      evicting_blocks: held.evictingBlocks,
      evicted_blocks: held.evictedBlocks,
    });
  const others = row(null);
  Object.assign(others, queueOf(use.other));
  rows.delete(null);
  return [...rows.values(), others];
}

function queueOf({ waitingTokens, computedTokens, outputTokens, running, waiting, preemptions }: TenantUse) {
  return {
    ...{ running, waiting, preemptions },
    waiting_tokens: waitingTokens,
    computed_tokens: computedTokens,
    output_tokens: outputTokens,
  };
}

const NOTHING: Omit<TenantDetail, 'tenant'> = {
  weight: null,
  running: 0,
  waiting: 0,
  waiting_tokens: 0,
  blocks_used: 0,
  blocks_cached: 0,
  asked_tokens: 0,
  hit_tokens: 0,
  evicting_blocks: 0,
  evicted_blocks: 0,
  computed_tokens: 0,
  output_tokens: 0,
  preemptions: 0,
};

function tierOf({ blocks, bytes, capacityBytes, hits, stored, evicted }: TierStatus) {
  return {
    ...{ blocks, bytes },
    capacity_bytes: capacityBytes,
    hit_blocks: hits,
    stored_blocks: stored,
    evicted_blocks: evicted,
  };
}

/** JSON has no infinity: the last bound is null. */
function distributionOf({ count, sum, buckets }: HistogramStatus) {
  return {
    ...{ count, sum },
    buckets: buckets.map(({ below, count }) => ({ below: Number.isFinite(below) ? below : null, count })),
  };
}
