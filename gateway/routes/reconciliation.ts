// GET /v1/organization/usage/reconciliation: the pools' journals against the bill, and what of the bill is an estimate.
import { Hono } from 'hono';
import type { Receipt } from '../../pool/wire/events.ts';
import type { AppEnv, GatewayPorts } from '../ports.ts';
import type { Tokens } from '../prices/price.ts';
import type { PoolState } from '../relay/poolRegistry.ts';
import { PoolRequestError } from '../relay/poolRequest.ts';
import { type Difference, differences } from '../usage/reconcile.ts';

/** Receipts that are looked at per pool: all, unless it has a backlog. */
const MAX_RECEIPTS = 500;

function tokensBody({ inputTokens, cachedInputTokens, outputTokens }: Tokens) {
  return { input_tokens: inputTokens, input_cached_tokens: cachedInputTokens, output_tokens: outputTokens };
}

function differenceBody({ requestId, pool, kind, receipt, entry }: Difference) {
  return {
    request_id: requestId,
    pool_id: pool,
    kind,
    receipt: tokensBody(receipt),
    entry: entry && tokensBody(entry),
  };
}

/** null: it can't be asked. */
async function journalOf({ client }: PoolState): Promise<{ receipts: Receipt[]; has_more: boolean } | null> {
  try {
    return await client.receipts(MAX_RECEIPTS);
  } catch (error) {
    if (error instanceof PoolRequestError) return null;
    throw error;
  }
}

/** Below /v1/organization/usage; the admin key is checked already. */
export function reconciliationRoutes({ usage, registry, freshenUsage }: GatewayPorts): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.get('/reconciliation', async (c) => {
    // Journals first: what is settled after that can only be missing there, never here.
    const journals = await Promise.all(
      registry.pools.map(async (pool) => ({ id: pool.client.target.id, journal: await journalOf(pool) })),
    );
    await freshenUsage(undefined);
    const receipts = journals.flatMap(({ journal }) => journal?.receipts ?? []);
    const entries = await usage.entriesOf(receipts.map((receipt) => receipt.request_id));
    const estimated = await usage.estimated();
    return c.json({
      object: 'reconciliation',
      pools: journals.map(({ id, journal }) => ({
        ...{ id, reachable: journal !== null, receipts: journal?.receipts.length ?? 0 },
        has_more: journal?.has_more ?? false,
      })),
      differences: differences(receipts, entries).map(differenceBody),
      estimated: { num_model_requests: estimated.requests, ...tokensBody(estimated) },
    });
  });
  return app;
}
