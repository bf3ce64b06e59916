// GET /pool/status?detail=true: what each engine of a pool does and for whom. Tenants are named, and who evicted whom: it is for the
// operator, behind the signature, and never on a route that anybody may read.
import { z } from 'zod';

const count = z.int().min(0);

const tierDetail = z.object({
  blocks: count,
  bytes: count,
  capacity_bytes: count,
  hit_blocks: count,
  stored_blocks: count,
  evicted_blocks: count,
});

/** Values below each power of two, cumulative. */
const distribution = z.object({
  count,
  sum: z.number(),
  buckets: z.array(z.object({ below: z.number().nullable(), count })),
});

export const tenantDetail = z.object({
  /** `public`: the operator's prefixes. null: all that are not named, in sum. */
  tenant: z.string().nullable(),
  weight: z.number().nullable(),
  running: count,
  waiting: count,
  waiting_tokens: count,
  /** KV blocks that its sequences use, and that only the cache keeps. */
  blocks_used: count,
  blocks_cached: count,
  /** Tokens that its requests brought to the cache, and those of them that the GPU's cache answered. */
  asked_tokens: count,
  hit_tokens: count,
  /** Cached blocks that left because it needed room, whosever they were; its own blocks that left because anybody did. */
  evicting_blocks: count,
  evicted_blocks: count,
  computed_tokens: count,
  output_tokens: count,
  preemptions: count,
});
export type TenantDetail = z.infer<typeof tenantDetail>;

export const engineDetail = z.object({
  /** Of all that it serves, by configuration. */
  models: z.array(z.string()),
  running: count,
  waiting: count,
  waiting_tokens: count,
  blocks: z.object({ total: count, free: count, cached: count, used: count }),
  /** Positions of used blocks that hold nothing. */
  wasted_positions: count,
  steps: count,
  prompt_tokens: count,
  cached_tokens: count,
  output_tokens: count,
  /** Guesses computed ahead, and those of them that were drawn. */
  drafted_tokens: count,
  accepted_draft_tokens: count,
  preemptions: count,
  evictions: count,
  tenants: z.array(tenantDetail),
  attribution: z.object({
    /** Blocks of `evicted` that left because `evicting` needed room: the most first. */
    pairs: z.array(z.object({ evicting: z.string(), evicted: z.string(), blocks: count })),
    has_more: z.boolean(),
  }),
  reuse_gap_ms: distribution,
  lifetime_ms: distribution,
  reuse_gap_blocks: distribution,
  lifetime_blocks: distribution,
});
export type EngineDetail = z.infer<typeof engineDetail>;

/** Blocks outside the GPU, of all engines of the process; null: none are kept. */
export const tiersDetail = z
  .object({
    ram: tierDetail,
    disk: tierDetail.extend({ state: z.string(), troubles: z.record(z.string(), count), dropped: count }).nullable(),
    missed_blocks: count,
    skipped_copies: count,
  })
  .nullable();
export type TiersDetail = z.infer<typeof tiersDetail>;

export const statusDetail = z.object({ engines: z.array(engineDetail), tiers: tiersDetail });
export type StatusDetail = z.infer<typeof statusDetail>;
