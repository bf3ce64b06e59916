// What each process is told on its stdin, out of one configuration. Pure: files, keys and ports come in.
import { join } from 'node:path';
import type { z } from 'zod';
import type { GatewaySectionInput } from '../gateway/config.ts';
import type { PoolsMessage } from '../gateway/processProtocol.ts';
import type { poolSection } from '../pool/config.ts';
import type { upstreamSection } from '../pool/upstream/config.ts';
import type { LoadedConfig } from './config.ts';
import type { EnrolledConfig, ForeignPool, HearthConfig, OwnPool } from './configSchema.ts';

export type PoolSectionInput = z.input<typeof poolSection>;
export type UpstreamSectionInput = z.input<typeof upstreamSection>;

/** A journal is one pool's, by its name. */
export const journalFolder = (dataDir: string, poolId: string): string => join(dataDir, 'journals', poolId);

/** Made anew at each start: nothing signed for an earlier one is accepted. */
export interface PoolIdentity {
  poolId: string;
  keyId: string;
  secretHex: string;
}

export const POOL_HOST = '127.0.0.1';
/** The gateway writes a request anew for the pool, with what the client left out. */
const POOL_BODY_MARGIN_BYTES = 2 ** 20;

/** The models that a pool of our own serves, of all that are configured. */
export function modelsOf({ models }: HearthConfig, pool: OwnPool): HearthConfig['models'] {
  return models.filter(({ id }) => pool.models?.includes(id) ?? true);
}

/** `modelPaths`: by model. */
export function poolSectionOf(
  { config }: LoadedConfig,
  own: OwnPool,
  identity: PoolIdentity,
  options: {
    modelPaths: ReadonlyMap<string, string>;
    dawnFlags: readonly string[];
    tuningFile: string;
    port: number | null;
  },
): PoolSectionInput {
  const {
    id: _id,
    kind: _kind,
    models: _models,
    adapter: _adapter,
    memoryBytes: _bound,
    ...settings
  } = {
    ...config.pool,
    ...own,
  };
  const { kvBytes, evictionPolicy, tenantMetrics, tuningBudgetMs, pricePerHour, currency, ...rest } = settings;
  const { journalFsync: _fsync, journalSegmentBytes: _segment, maxReceipts: _receipts, ...others } = rest;
  const { kvRamBytes, kvDiskBytes, kvDiskFolder, kvWriteThrough, ...limits } = others;
  const { sleepAfterMs, minWarm, deviceBytes, wakeWaiting, wakeWaitMs, probeMs, ...bounds } = limits;
  return {
    ...ownSection(config, identity, options.port),
    models: modelsOf(config, own).map(({ id, kvBlocks, contextLength, ...model }) => ({
      ...{ id, activations: model.activations, kvFormat: model.kvFormat, kvWeight: model.kvWeight },
      ...{ speculation: model.speculation, path: options.modelPaths.get(id) ?? '' },
      ...(kvBlocks !== undefined && { kvBlocks }),
      ...(contextLength !== undefined && { contextLength }),
    })),
    ...(kvBytes !== undefined && { kvBytes }),
    ...{ evictionPolicy, tenantMetrics, currency },
    ...(pricePerHour !== undefined && { pricePerHour }),
    tuning: { file: options.tuningFile, budgetMs: tuningBudgetMs },
    bounds,
    lifecycle: {
      ...{ minWarm, wakeWaiting, wakeWaitMs, probeMs },
      ...(sleepAfterMs !== undefined && { sleepAfterMs }),
      ...(deviceBytes !== undefined && { deviceBytes }),
    },
    tiers: {
      ...(kvRamBytes !== undefined && { ramBytes: kvRamBytes }),
      diskFolder: kvDiskFolder ?? join(config.server.dataDir, 'kv'),
      diskBytes: kvDiskBytes,
      writeThrough: kvWriteThrough,
    },
    dawnFlags: [...options.dawnFlags],
  };
}

/** Of a pool whose engine is a foreign server. Its key stays in the environment. */
export function upstreamSectionOf(
  { config }: LoadedConfig,
  foreign: ForeignPool,
  identity: PoolIdentity,
  port: number | null,
): UpstreamSectionInput {
  const { id: _id, kind: _kind, memoryBytes: _bound, ...server } = foreign;
  const { wakeWaiting, wakeWaitMs, probeMs } = config.pool;
  return { ...ownSection(config, identity, port), ...server, wakeWaiting, wakeWaitMs, probeMs };
}

/** What every pool process of this machine is told of itself. */
function ownSection({ server, pool }: HearthConfig, { poolId, keyId, secretHex }: PoolIdentity, port: number | null) {
  return {
    host: POOL_HOST,
    port: port ?? 0,
    poolId,
    keys: [{ id: keyId, secretHex }],
    journal: {
      folder: journalFolder(server.dataDir, poolId),
      fsync: pool.journalFsync,
      segmentBytes: pool.journalSegmentBytes,
      maxReceipts: pool.maxReceipts,
    },
    maxBodyBytes: server.maxBodyBytes + POOL_BODY_MARGIN_BYTES,
    drainMs: server.drainMs,
  };
}

/** The same pool for a gateway elsewhere: where it listens, and where it announces itself. */
export function enrolledSection<T extends PoolSectionInput | UpstreamSectionInput>(
  section: T,
  enrolled: EnrolledConfig,
): T {
  const { id: _id, keyFile: _key, gateway, url, ...listener } = enrolled;
  return { ...section, ...listener, announce: { gateway, url } };
}

export function gatewaySectionOf(
  { config, adminKey, pepperHex }: LoadedConfig,
  pools: PoolsMessage['pools'],
  port: number | null,
): GatewaySectionInput {
  const { mode, host, dataDir, tls, behindTls, drainMs, maxBodyBytes } = config.server;
  const {
    chatMaxTokens,
    completionMaxTokens,
    devTokensPerDay,
    synchronous,
    billing,
    routing,
    publicPrefixes,
    ...limits
  } = config.gateway;
  return {
    ...{ mode, host, dataDir, drainMs, synchronous, billing, routing, publicPrefixes },
    port: port ?? config.server.port,
    trustProxy: behindTls,
    ...(tls && { tls }),
    ...(adminKey !== null && { adminKey }),
    ...(pepperHex !== null && { peppers: [{ version: 1, secretHex: pepperHex }] }),
    // One that starts now has no use for those that are about to go.
    pools: pools.flatMap(({ retired, ...pool }) => (retired ? [] : pool)),
    defaults: { chatMaxTokens, completionMaxTokens, devTokensPerDay },
    limits: { ...limits, maxBodyBytes },
  };
}
