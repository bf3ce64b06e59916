// The two simulations: policies side by side on a trace, and tenants beside a noisy neighbour. Each prints its table and gives its rows.
import { createEvictionPolicy } from '../../engine/eviction/policies.ts';
import { playOptimum } from './optimum.ts';
import { OPTIMUM, type Options } from './options.ts';
import { hitRate, type Outcome, replay } from './replay.ts';
import { lossesOf, normalHitRate, spreadOverTenants, TENANTS, worstLoss } from './tenants.ts';
import type { Trace } from './trace.ts';

export interface Row {
  name: string;
  value: number;
  unit: string;
  policy: string;
  capacityBlocks: number;
  [parameter: string]: string | number;
}

/** More room than all that the trace holds changes nothing but memory. */
function play(policy: string, trace: Trace, mostBlocks: number): Outcome {
  const capacityBlocks = Math.min(mostBlocks, trace.blockCount);
  if (policy === OPTIMUM) return playOptimum(trace, capacityBlocks);
  return replay(trace, capacityBlocks, createEvictionPolicy(policy, capacityBlocks));
}

const servedOf = ({ requests }: Trace) => requests.reduce((sum, { blocks }) => sum + blocks.length, 0);

/** Hit rate of each policy at each capacity, beside the optimum. */
export function comparePolicies(trace: Trace, { capacities, policies }: Options): Row[] {
  const rows: Row[] = [];
  console.log(
    `${trace.requests.length} requests, ${servedOf(trace)} blocks; hit rate in % (share of the optimum in %)`,
  );
  console.log(['capacity'.padStart(9), ...policies.map((policy) => policy.padStart(17))].join(''));
  for (const capacityBlocks of capacities) {
    const optimum = play(OPTIMUM, trace, capacityBlocks);
    const cells = policies.map((policy) => {
      const outcome = policy === OPTIMUM ? optimum : play(policy, trace, capacityBlocks);
      const value = hitRate(outcome);
      const share = optimum.hitBlocks === 0 ? 100 : (100 * outcome.hitBlocks) / optimum.hitBlocks;
      const usPerBlock = (1e6 * outcome.seconds) / outcome.servedBlocks;
      rows.push(
        { name: 'hit_rate', value, unit: '%', policy, capacityBlocks },
        { name: 'share_of_optimum', value: share, unit: '%', policy, capacityBlocks },
        { name: 'us_per_block', value: usPerBlock, unit: 'µs', policy, capacityBlocks },
        { name: 'evictions', value: outcome.evictions, unit: 'blocks', policy, capacityBlocks },
      );
      return `${value.toFixed(2)} (${share.toFixed(0)})`.padStart(17);
    });
    console.log(String(capacityBlocks).padStart(9) + cells.join(''));
  }
  return rows;
}

/** Tenants with a scanner beside them, and without ("quiet"). */
export function compareTenants(trace: Trace, { capacities, policies, seed }: Options): Row[] {
  const rows: Row[] = [];
  for (const isQuiet of [false, true]) {
    const spread = spreadOverTenants(trace, seed, !isQuiet);
    const accounts = isQuiet ? TENANTS : TENANTS + 1;
    const prefix = isQuiet ? 'quiet_' : '';
    console.log(`\n${TENANTS} tenants${isQuiet ? ', nobody misbehaving' : ' and a scanner with half of all traffic'}`);
    console.log(
      'capacity            policy   hit %   worst loss (against LRU alone)   loss of each tenant against being alone, points',
    );
    for (const capacityBlocks of capacities) {
      const shareBlocks = Math.floor(capacityBlocks / accounts);
      for (const policy of policies) {
        const shared = play(policy, spread, capacityBlocks);
        const losses = lossesOf(shared, spread, shareBlocks, (own, blocks) => play(policy, own, blocks));
        const toLru = lossesOf(shared, spread, shareBlocks, (own, blocks) => play('lru', own, blocks));
        const row = (name: string, value: number, unit: string, more = {}): void => {
          rows.push({ name: prefix + name, value, unit, policy, capacityBlocks, ...more });
        };
        row('hit_rate', normalHitRate(shared), '%');
        row('worst_loss', worstLoss(losses), 'points');
        row('worst_loss_to_lru', worstLoss(toLru), 'points');
        row('us_per_block', (1e6 * shared.seconds) / shared.servedBlocks, 'µs');
        for (const { tenant, hitRate: value, alone } of losses) row('tenant_hit_rate', value, '%', { tenant, alone });
        const each = losses.map(({ hitRate: with_, alone }) => (alone - with_).toFixed(1).padStart(6)).join('');
        const worst = `${worstLoss(losses).toFixed(2)} (${worstLoss(toLru).toFixed(2)})`;
        console.log(
          `${String(capacityBlocks).padStart(8)}${policy.padStart(18)}${normalHitRate(shared).toFixed(2).padStart(8)}${worst.padStart(20)}${each}`,
        );
      }
    }
  }
  return rows;
}
