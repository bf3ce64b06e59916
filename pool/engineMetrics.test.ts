// The engines' series: as many as models and named tenants, whatever tenants there are; nothing is lost in `other`.
import { describe, expect, it } from 'vitest';
import { engineMetricLines } from './engineMetrics.ts';
import type { EngineDetail, StatusDetail, TenantDetail } from './wire/status.ts';

function tenant(name: string | null, over: Partial<TenantDetail> = {}): TenantDetail {
  return {
    ...{ tenant: name, weight: 1, running: 0, waiting: 0, waiting_tokens: 0, blocks_used: 0, blocks_cached: 0 },
    ...{
      evicting_blocks: 0,
      evicted_blocks: 0,
      asked_tokens: 0,
      hit_tokens: 0,
      computed_tokens: 0,
      output_tokens: 0,
      preemptions: 0,
      ...over,
    },
  };
}

const EMPTY = { count: 0, sum: 0, buckets: [] };

function engine(over: Partial<EngineDetail> = {}): EngineDetail {
  return {
    ...{ models: ['m', 'alias'], running: 0, waiting: 0, waiting_tokens: 0, wasted_positions: 7, steps: 0 },
    ...{ prompt_tokens: 0, cached_tokens: 0, output_tokens: 0, preemptions: 0, evictions: 0 },
    ...{ drafted_tokens: 0, accepted_draft_tokens: 0 },
    blocks: { total: 10, free: 1, cached: 4, used: 5 },
    tenants: [tenant(null)],
    attribution: { pairs: [], has_more: false },
    ...{ reuse_gap_ms: EMPTY, lifetime_ms: EMPTY, reuse_gap_blocks: EMPTY, lifetime_blocks: EMPTY },
    ...over,
  };
}

const detail = (over: Partial<EngineDetail> = {}, tiers: StatusDetail['tiers'] = null): StatusDetail => ({
  engines: [engine(over)],
  tiers,
});

const TENANTS = [
  tenant('small', { blocks_cached: 1, asked_tokens: 10, hit_tokens: 1 }),
  tenant('large', { blocks_cached: 9, asked_tokens: 100, hit_tokens: 20 }),
  tenant('middle', { blocks_cached: 5, asked_tokens: 50, hit_tokens: 10 }),
  tenant(null, { blocks_cached: 2, asked_tokens: 7, hit_tokens: 3 }),
];

describe('the series of an engine', () => {
  it('name the first of its models, escaped, and no tenant unless asked', () => {
    const lines = engineMetricLines(detail({ models: ['a"b\\c\nd', 'alias'], tenants: TENANTS }), 0);
    expect(lines).toContain('hearth_pool_blocks_used{model="a\\"b\\\\c\\nd"} 5');
    expect(lines).toContain('hearth_pool_wasted_positions{model="a\\"b\\\\c\\nd"} 7');
    expect(lines.join()).not.toMatch(/alias|large|tenant=/);
  });

  it('count drafts and those accepted by model', () => {
    const lines = engineMetricLines(detail({ drafted_tokens: 9, accepted_draft_tokens: 7 }), 0);
    expect(lines).toContain('# TYPE hearth_pool_drafted_tokens_total counter');
    expect(lines).toContain('hearth_pool_drafted_tokens_total{model="m"} 9');
    expect(lines).toContain('hearth_pool_accepted_draft_tokens_total{model="m"} 7');
  });

  it('count hits over all tenants, named or not', () => {
    const lines = engineMetricLines(detail({ tenants: TENANTS }), 0);
    expect(lines).toContain('hearth_pool_cache_asked_tokens_total{model="m"} 167');
    expect(lines).toContain('hearth_pool_cache_hit_tokens_total{model="m"} 34');
  });

  it('name as many tenants as asked, the largest, with the rest in one', () => {
    const lines = engineMetricLines(detail({ tenants: TENANTS }), 2);
    expect(lines.filter((line) => line.startsWith('hearth_pool_tenant_cache_asked_tokens{'))).toEqual([
      'hearth_pool_tenant_cache_asked_tokens{model="m",tenant="large"} 100',
      'hearth_pool_tenant_cache_asked_tokens{model="m",tenant="middle"} 50',
      'hearth_pool_tenant_cache_asked_tokens{model="m",tenant="other"} 17',
    ]);
    const many = Array.from({ length: 500 }, (_, i) => tenant(`t${i}`, { blocks_used: i }));
    const all = engineMetricLines(detail({ tenants: [...many, tenant(null)] }), 3);
    expect(new Set(all.flatMap((line) => line.match(/tenant="[^"]+"/g) ?? [])).size).toBe(4);
  });

  it('tell for whom blocks left and whose they were, with nobody lost in the rest', () => {
    const tenants = [
      tenant('flood', { blocks_cached: 3, evicting_blocks: 50, evicted_blocks: 40 }),
      tenant('small', { blocks_cached: 2, evicting_blocks: 4 }),
      tenant(null, { evicting_blocks: 1, evicted_blocks: 15 }),
    ];
    const evictions = (most: number) =>
      engineMetricLines(detail({ tenants }), most).filter((line) => line.startsWith('hearth_pool_tenant_evictions{'));
    expect(evictions(1)).toEqual([
      'hearth_pool_tenant_evictions{model="m",tenant="flood",role="evicting"} 50',
      'hearth_pool_tenant_evictions{model="m",tenant="flood",role="evicted"} 40',
      'hearth_pool_tenant_evictions{model="m",tenant="other",role="evicting"} 5',
      'hearth_pool_tenant_evictions{model="m",tenant="other",role="evicted"} 15',
    ]);
    expect(evictions(0)).toEqual([]);
  });

  it('have distributions as Prometheus has them, in seconds', () => {
    const lifetime_ms = {
      ...{ count: 3, sum: 5000 },
      buckets: [
        { below: 1024, count: 1 },
        { below: 4096, count: 2 },
        { below: null, count: 3 },
      ],
    };
    const lines = engineMetricLines(detail({ lifetime_ms }), 0);
    expect(lines.filter((line) => line.startsWith('hearth_pool_block_lifetime_seconds'))).toEqual([
      'hearth_pool_block_lifetime_seconds_bucket{model="m",le="1.024"} 1',
      'hearth_pool_block_lifetime_seconds_bucket{model="m",le="4.096"} 2',
      'hearth_pool_block_lifetime_seconds_bucket{model="m",le="+Inf"} 3',
      'hearth_pool_block_lifetime_seconds_sum{model="m"} 5',
      'hearth_pool_block_lifetime_seconds_count{model="m"} 3',
    ]);
  });

  it('tell the tiers apart, in tokens that they spared', () => {
    const tier = { blocks: 1, bytes: 2, capacity_bytes: 3, hit_blocks: 4, stored_blocks: 5, evicted_blocks: 6 };
    const disk = { ...tier, hit_blocks: 1, state: 'open', troubles: { damaged: 2 }, dropped: 0 };
    const lines = engineMetricLines(detail({}, { ram: tier, disk, missed_blocks: 8, skipped_copies: 9 }), 0);
    expect(lines).toContain('hearth_pool_kv_tier_hit_tokens_total{tier="ram"} 64');
    expect(lines).toContain('hearth_pool_kv_tier_hit_tokens_total{tier="disk"} 16');
    expect(lines).toContain('hearth_pool_kv_disk_troubles_total{kind="damaged"} 2');
    expect(lines).toContain('hearth_pool_kv_tier_missed_blocks_total 8');
  });

  it('describe each family once, before its samples', () => {
    const two = { engines: [engine(), engine({ models: ['n'] })], tiers: null };
    const lines = engineMetricLines(two, 1);
    const types = lines.filter((line) => line.startsWith('# TYPE')).map((line) => line.split(' ')[2]);
    expect(new Set(types).size).toBe(types.length);
    let family = '';
    for (const line of lines) {
      if (line.startsWith('# TYPE')) family = line.split(' ')[2] ?? '';
      else if (!line.startsWith('#')) expect(line.startsWith(family)).toBe(true);
    }
  });
});
