// Whether bringing blocks back from the tiers beats computing them again, by measured rates: at admission, and for the choice of who is
// preempted. Counts in prompt tokens, so that a millisecond of loading and a token of computing compare.
import { PUBLIC_NAMESPACE } from './blockManager.ts';
import { invariant } from './invariant.ts';
import { BLOCK_TOKENS } from './modelRunner.ts';
import type { BlockLoad, Sequence } from './sequence.ts';
import type { CachedPath, KvTiers } from './tiers/port.ts';

/** A load that takes so much longer than estimated is given up, and its tokens are computed: a disk that hangs must hang no request. */
const LATE_FACTOR = 4;
const LATE_MS = 1_000;

/** Where KV blocks may come from besides the GPU, and what computing them costs instead. */
export interface BlockSource {
  tiers: Pick<KvTiers, 'probe' | 'maxLoadBlocks'>;
  /** Prompt tokens computed per millisecond, as measured; 0: not known yet. */
  prefillTokensPerMs: () => number;
  /** Seals the operator's blocks; null: they stay in this process. */
  publicSealKey: () => Uint8Array | null;
}

/** Where the tiers would find the sequence's blocks; null: nowhere. `publicPositions`: leading ones whose blocks are the operator's. */
function cachedPath(
  { tokens, request: { account, cache } }: Sequence,
  publicPositions: number,
  { publicSealKey }: BlockSource,
): CachedPath | null {
  if (!cache) return null;
  const publicBlocks = publicPositions / BLOCK_TOKENS;
  const publicScope = publicBlocks > 0 ? { namespace: PUBLIC_NAMESPACE, sealKey: publicSealKey() } : null;
  return { tokens, extra: cache.extra, scope: cache.scope, account, publicScope, publicBlocks };
}

/** The load of blocks beyond those that the sequence has; null where there are none, or computing them is as quick. */
export function planLoad(
  sequence: Sequence,
  source: BlockSource,
  publicPositions: number,
  nowMs: number,
): BlockLoad | null {
  const { tiers, prefillTokensPerMs } = source;
  const path = cachedPath(sequence, publicPositions, source);
  if (!path) return null;
  const from = Math.floor(sequence.computed / BLOCK_TOKENS);
  // Also where nothing can be hit: the tiers keep blocks of namespaces that they have heard of.
  const { blocks, loadMs } = tiers.probe(path, from, sequence.maxCached);
  const spared = (from + blocks) * BLOCK_TOKENS - sequence.computed;
  const rate = prefillTokensPerMs();
  if (blocks === 0 || (rate > 0 && loadMs * rate >= spared)) return null;
  invariant((from + blocks) * BLOCK_TOKENS <= sequence.maxCached, 'tiers answer what was asked', { from, blocks });
  const untilMs = nowMs + LATE_FACTOR * loadMs + LATE_MS;
  return { path, from, count: Math.min(blocks, tiers.maxLoadBlocks), untilMs, abort: new AbortController() };
}

/**
 * What preempting the sequence wastes, in prompt tokens: positions beyond the `shared` ones that others hold, at what it costs to bring
 * them back where the tiers have them and that is less.
 */
export function recomputeCost(
  sequence: Sequence,
  shared: number,
  source: BlockSource | null,
  publicPositions: number,
): number {
  const own = Math.max(0, sequence.computed - shared);
  if (!source || own < BLOCK_TOKENS) return own;
  const rate = source.prefillTokensPerMs();
  const path = cachedPath(sequence, publicPositions, source);
  if (!path || rate === 0) return own;
  const { blocks, loadMs } = source.tiers.probe(path, Math.floor(shared / BLOCK_TOKENS), sequence.computed);
  const kept = blocks * BLOCK_TOKENS;
  return own - kept + Math.min(kept, loadMs * rate);
}
