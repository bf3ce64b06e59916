// What use cost, by day and by what the caller groups it: each line item is one meter of one model. Sums are big integers of nano-dollars.
import { BILLED_METERS, type BilledMeter, meteredTokens, unitPrices } from '../prices/price.ts';
import type { PricedUse } from './port.ts';

export const COST_GROUPS = ['project_id', 'api_key_id', 'line_item'] as const;
export type CostGroup = (typeof COST_GROUPS)[number];

export interface CostSum {
  bucketMs: number;
  /** Values of the groups that were asked for, null for others. */
  group: Record<CostGroup, string | null>;
  nanoUsd: bigint;
  tokens: number;
}

const ITEM_NAMES: Readonly<Record<BilledMeter, string>> = {
  input: 'input_tokens',
  cached_input: 'cached_input_tokens',
  output: 'output_tokens',
};

/** In the order in which they first appear. `items`: only these line items; undefined: all. */
export function costSums(
  uses: readonly PricedUse[],
  groupBy: readonly CostGroup[],
  items?: readonly string[],
): CostSum[] {
  const sums = new Map<string, CostSum>();
  for (const use of uses)
    for (const meter of BILLED_METERS) {
      const tokens = meteredTokens(use)[meter];
      const item = `${use.model}, ${ITEM_NAMES[meter]}`;
      if (tokens === 0 || (items && !items.includes(item))) continue;
      const group = {
        project_id: groupBy.includes('project_id') ? use.project : null,
        api_key_id: groupBy.includes('api_key_id') ? use.keyId : null,
        line_item: groupBy.includes('line_item') ? item : null,
      };
      const name = JSON.stringify([use.bucketMs, group]);
      const sum = sums.get(name) ?? { bucketMs: use.bucketMs, group, nanoUsd: 0n, tokens: 0 };
      sum.nanoUsd += BigInt(tokens) * BigInt(unitPrices(use.price)[meter]);
      sum.tokens += tokens;
      sums.set(name, sum);
    }
  return [...sums.values()];
}
