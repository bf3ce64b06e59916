// The noisy neighbour: a trace's conversations spread over eight tenants of very unequal size (Zipf, tenant k has 1/k), and a scanner that sends
// as much as all of them together, nothing of it twice. What each tenant loses against being alone on its fair share.
import { hitRate, type Outcome } from './replay.ts';
import { BlockNumbering, conversationHash, type Trace, type TraceRequest } from './trace.ts';

export const TENANTS = 8;
const SCANNER = 'scanner';

/** Each request goes to the tenant of its conversation; `withScanner`: each is followed by one of equal length that nobody repeats. */
export function spreadOverTenants(trace: Trace, seed: number, withScanner: boolean): Trace {
  const upTo: number[] = [];
  let sum = 0;
  for (let rank = 1; rank <= TENANTS; rank++) {
    sum += 1 / rank;
    upTo.push(sum);
  }
  const numbering = new BlockNumbering();
  const requests: TraceRequest[] = [];
  let fresh = trace.blockCount;
  for (const request of trace.requests) {
    const at = conversationHash(request, seed) * sum;
    const tenant = `tenant ${1 + upTo.findIndex((bound) => at < bound)}`;
    requests.push({ ...request, tenant, blocks: numbering.number(tenant, request.blocks) });
    if (!withScanner) continue;
    const ids = Int32Array.from(request.blocks, () => fresh++);
    requests.push({ ...request, tenant: SCANNER, blocks: numbering.number(SCANNER, ids) });
  }
  return { requests, blockCount: numbering.count };
}

export interface TenantLoss {
  tenant: string;
  /** In % of its blocks, shared and alone on its fair share. */
  hitRate: number;
  alone: number;
}

/** `play` runs a policy over a trace at a capacity. Per normal tenant, largest first. */
export function lossesOf(
  shared: Outcome,
  trace: Trace,
  shareBlocks: number,
  play: (trace: Trace, capacityBlocks: number) => Outcome,
): TenantLoss[] {
  const names = [...shared.tenants.keys()].filter((name) => name !== SCANNER).sort();
  return names.map((tenant) => {
    const own = { ...trace, requests: trace.requests.filter((request) => request.tenant === tenant) };
    return { tenant, hitRate: hitRate(shared.tenants.get(tenant)!), alone: hitRate(play(own, shareBlocks)) };
  });
}

export function worstLoss(losses: readonly TenantLoss[]): number {
  return Math.max(...losses.map(({ hitRate: shared, alone }) => alone - shared));
}

/** Hit rate of the normal tenants together. */
export function normalHitRate({ tenants }: Outcome): number {
  const count = { servedBlocks: 0, hitBlocks: 0 };
  for (const [name, { servedBlocks, hitBlocks }] of tenants) {
    if (name === SCANNER) continue;
    count.servedBlocks += servedBlocks;
    count.hitBlocks += hitBlocks;
  }
  return hitRate(count);
}
