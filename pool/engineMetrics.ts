// What the engines tell, in Prometheus' text format. Labels are configured models, a closed set of tiers and troubles, and, where the
// operator wants them, the largest tenants with `other` for the rest: their number never depends on requests.
import { escapeLabel } from './metrics.ts';
import type { EngineDetail, StatusDetail, TenantDetail } from './wire/status.ts';

/** Tokens per block. */
const BLOCK_TOKENS = 16;

interface Family<T> {
  name: string;
  help: string;
  type: 'gauge' | 'counter';
  of: (one: T) => number;
}

type Labels = Readonly<Record<string, string>>;

const ENGINE: readonly Family<EngineDetail>[] = [
  { name: 'running', help: 'Sequences that share the steps.', type: 'gauge', of: (e) => e.running },
  { name: 'waiting', help: 'Sequences that wait.', type: 'gauge', of: (e) => e.waiting },
  { name: 'waiting_tokens', help: 'Prompt tokens that wait.', type: 'gauge', of: (e) => e.waiting_tokens },
  { name: 'blocks_total', help: 'Blocks in the KV arena.', type: 'gauge', of: (e) => e.blocks.total },
  { name: 'blocks_free', help: 'Blocks that hold nothing.', type: 'gauge', of: (e) => e.blocks.free },
  { name: 'blocks_cached', help: 'Blocks held by the prefix index alone.', type: 'gauge', of: (e) => e.blocks.cached },
  { name: 'blocks_used', help: 'Blocks that running sequences use.', type: 'gauge', of: (e) => e.blocks.used },
  {
    name: 'wasted_positions',
    help: 'Positions of used blocks that hold nothing.',
    type: 'gauge',
    of: (e) => e.wasted_positions,
  },
  { name: 'steps_total', help: 'Engine steps.', type: 'counter', of: (e) => e.steps },
  {
    name: 'drafted_tokens_total',
    help: 'Guesses at output tokens, computed ahead.',
    type: 'counter',
    of: (e) => e.drafted_tokens,
  },
  {
    name: 'accepted_draft_tokens_total',
    help: 'Guesses that the sampler then drew.',
    type: 'counter',
    of: (e) => e.accepted_draft_tokens,
  },
  { name: 'preemptions_total', help: 'Sequences put back to waiting.', type: 'counter', of: (e) => e.preemptions },
  { name: 'evictions_total', help: 'Cached blocks given up.', type: 'counter', of: (e) => e.evictions },
  {
    name: 'cache_asked_tokens_total',
    help: 'Tokens of admitted sequences that were looked up in the prefix cache.',
    type: 'counter',
    of: (e) => sum(e.tenants, (tenant) => tenant.asked_tokens),
  },
  {
    name: 'cache_hit_tokens_total',
    help: 'Tokens of admitted sequences that the prefix cache on the GPU answered.',
    type: 'counter',
    of: (e) => sum(e.tenants, (tenant) => tenant.hit_tokens),
  },
];

const TENANT: readonly Family<TenantDetail>[] = [
  { name: 'tenant_running', help: 'Sequences that share the steps.', type: 'gauge', of: (t) => t.running },
  { name: 'tenant_waiting', help: 'Sequences that wait.', type: 'gauge', of: (t) => t.waiting },
  { name: 'tenant_waiting_tokens', help: 'Tokens that wait.', type: 'gauge', of: (t) => t.waiting_tokens },
  { name: 'tenant_blocks_used', help: 'Blocks that its sequences use.', type: 'gauge', of: (t) => t.blocks_used },
  {
    name: 'tenant_blocks_cached',
    help: 'Blocks that only the cache keeps.',
    type: 'gauge',
    of: (t) => t.blocks_cached,
  },
  {
    name: 'tenant_cache_asked_tokens',
    help: 'Tokens looked up in the cache.',
    type: 'gauge',
    of: (t) => t.asked_tokens,
  },
  { name: 'tenant_cache_hit_tokens', help: 'Tokens that the cache answered.', type: 'gauge', of: (t) => t.hit_tokens },
  { name: 'tenant_output_tokens', help: 'Output tokens.', type: 'gauge', of: (t) => t.output_tokens },
  { name: 'tenant_preemptions', help: 'Sequences put back to waiting.', type: 'gauge', of: (t) => t.preemptions },
];

const EVICTIONS: Family<number> = {
  name: 'tenant_evictions',
  help: 'Cached blocks that left: evicting, for its need; evicted, of its own.',
  type: 'gauge',
  of: (blocks) => blocks,
};

type Tier = NonNullable<StatusDetail['tiers']>['ram'];
const TIER: readonly Family<Tier>[] = [
  { name: 'kv_tier_blocks', help: 'KV blocks in the tier.', type: 'gauge', of: (t) => t.blocks },
  { name: 'kv_tier_bytes', help: 'Bytes in the tier.', type: 'gauge', of: (t) => t.bytes },
  { name: 'kv_tier_capacity_bytes', help: 'Bytes that the tier may have.', type: 'gauge', of: (t) => t.capacity_bytes },
  {
    name: 'kv_tier_hit_tokens_total',
    help: 'Tokens whose KV was loaded from the tier.',
    type: 'counter',
    of: (t) => t.hit_blocks * BLOCK_TOKENS,
  },
  { name: 'kv_tier_stored_blocks_total', help: 'Blocks written to it.', type: 'counter', of: (t) => t.stored_blocks },
  { name: 'kv_tier_evicted_blocks_total', help: 'Blocks given up.', type: 'counter', of: (t) => t.evicted_blocks },
];

/** `tenants`: most that are named per engine; 0: no series by tenant. */
export function engineMetricLines({ engines, tiers }: StatusDetail, tenants: number): string[] {
  const labelled = engines.map((engine) => ({ labels: { model: engine.models[0] ?? '' }, one: engine }));
  const named = tenants === 0 ? [] : labelled.flatMap(({ labels, one }) => byTenant(labels, one.tenants, tenants));
  return [
    ...ENGINE.flatMap((family) => lines(family, labelled)),
    ...histogramLines('block_reuse_gap_seconds', 'Between two uses of a cached block.', engines, (e) => e.reuse_gap_ms),
    ...histogramLines(
      'block_lifetime_seconds',
      'From a block’s entering the cache to its leaving.',
      engines,
      (e) => e.lifetime_ms,
    ),
    ...TENANT.flatMap((family) => lines(family, named)),
    ...lines(EVICTIONS, named.flatMap(byRole)),
    ...tierLines(tiers),
  ];
}

function sum<T>(list: readonly T[], of: (one: T) => number): number {
  return list.reduce((total, one) => total + of(one), 0);
}

/** The largest by what they hold and wait for; the others, and those whom the engine did not name, in sum. */
function byTenant(labels: Labels, all: readonly TenantDetail[], most: number) {
  const size = (tenant: TenantDetail) => tenant.blocks_used + tenant.blocks_cached + tenant.waiting;
  const known = all.filter(({ tenant }) => tenant !== null).sort((a, b) => size(b) - size(a));
  const rest = [...known.slice(most), ...all.filter(({ tenant }) => tenant === null)];
  const other = rest.reduce((total, one) => addUp(total, one));
  return [
    ...known.slice(0, most).map((one) => ({ labels: { ...labels, tenant: one.tenant ?? '' }, one })),
    { labels: { ...labels, tenant: 'other' }, one: other },
  ];
}

function byRole({ labels, one }: { labels: Labels; one: TenantDetail }) {
  return [
    { labels: { ...labels, role: 'evicting' }, one: one.evicting_blocks },
    { labels: { ...labels, role: 'evicted' }, one: one.evicted_blocks },
  ];
}

function addUp(a: TenantDetail, b: TenantDetail): TenantDetail {
  const total = { ...a };
  for (const [key, value] of Object.entries(b))
    if (typeof value === 'number' && key !== 'weight')
      Object.assign(total, { [key]: value + Number(a[key as keyof TenantDetail]) });
  return total;
}

function tierLines(tiers: StatusDetail['tiers']): string[] {
  if (!tiers) return [];
  const { ram, disk, missed_blocks, skipped_copies } = tiers;
  const both = [{ labels: { tier: 'ram' }, one: ram }, ...(disk ? [{ labels: { tier: 'disk' }, one: disk }] : [])];
  const single = (name: string, help: string, value: number) =>
    lines({ name, help, type: 'counter', of: () => value }, [{ labels: {}, one: null }]);
  const troubles = Object.entries(disk?.troubles ?? {}).map(([kind, count]) => ({ labels: { kind }, one: count }));
  return [
    ...TIER.flatMap((family) => lines(family, both)),
    ...single('kv_tier_missed_blocks_total', 'Blocks that a load wanted and no tier gave.', missed_blocks),
    ...single('kv_tier_skipped_copies_total', 'Blocks not copied off the GPU because it was busy.', skipped_copies),
    ...lines(
      { name: 'kv_disk_troubles_total', help: 'Blocks lost on disk, by why.', type: 'counter', of: (n: number) => n },
      troubles,
    ),
  ];
}

function lines<T>({ name, help, type, of }: Family<T>, samples: readonly { labels: Labels; one: T }[]): string[] {
  if (samples.length === 0) return [];
  const full = `hearth_pool_${name}`;
  return [
    `# HELP ${full} ${help}`,
    `# TYPE ${full} ${type}`,
    ...samples.map(({ labels, one }) => `${full}${labelText(labels)} ${of(one)}`),
  ];
}

function histogramLines(
  name: string,
  help: string,
  engines: readonly EngineDetail[],
  of: (engine: EngineDetail) => EngineDetail['lifetime_ms'],
): string[] {
  const full = `hearth_pool_${name}`;
  const samples = engines.flatMap((engine) => {
    const model = engine.models[0] ?? '';
    const { count, sum, buckets } = of(engine);
    const finite = buckets.filter(({ below }) => below !== null);
    return [
      ...finite.map((one) => `${full}_bucket${labelText({ model, le: String((one.below ?? 0) / 1000) })} ${one.count}`),
      `${full}_bucket${labelText({ model, le: '+Inf' })} ${count}`,
      `${full}_sum${labelText({ model })} ${sum / 1000}`,
      `${full}_count${labelText({ model })} ${count}`,
    ];
  });
  return [`# HELP ${full} ${help}`, `# TYPE ${full} histogram`, ...samples];
}

function labelText(labels: Labels): string {
  const inner = Object.entries(labels).map(([key, value]) => `${key}="${escapeLabel(value)}"`);
  return inner.length > 0 ? `{${inner.join(',')}}` : '';
}
