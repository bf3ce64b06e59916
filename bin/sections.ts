// What each process is told on its stdin, out of one configuration. Pure: files, keys and ports come in.
import { join } from 'node:path';
import type { z } from 'zod';
import type { GatewaySectionInput } from '../gateway/config.ts';
import type { poolSection } from '../pool/config.ts';
import type { LoadedConfig } from './config.ts';

export type PoolSectionInput = z.input<typeof poolSection>;

/** Made anew at each start: nothing signed for an earlier one is accepted. */
export interface PoolIdentity {
  poolId: string;
  keyId: string;
  secretHex: string;
}

const POOL_HOST = '127.0.0.1';
/** The gateway writes a request anew for the pool, with what the client left out. */
const POOL_BODY_MARGIN_BYTES = 2 ** 20;

export function poolSectionOf(
  { config }: LoadedConfig,
  identity: PoolIdentity,
  options: { modelPaths: readonly string[]; dawnFlags: string[]; tuningFile: string; port: number | null },
): PoolSectionInput {
  const { kvBytes, evictionPolicy, tenantMetrics, tuningBudgetMs, ...rest } = config.pool;
  const { journalFsync, journalSegmentBytes, maxReceipts, ...others } = rest;
  const { kvRamBytes, kvDiskBytes, kvDiskFolder, kvWriteThrough, ...limits } = others;
  const { sleepAfterMs, minWarm, deviceBytes, wakeWaiting, wakeWaitMs, probeMs, ...bounds } = limits;
  return {
    host: POOL_HOST,
    port: options.port ?? 0,
    poolId: identity.poolId,
    keys: [{ id: identity.keyId, secretHex: identity.secretHex }],
    models: config.models.map(({ id, activations, kvFormat, kvBlocks, kvWeight, speculation, contextLength }, i) => ({
      ...{ id, activations, kvFormat, kvWeight, speculation, path: options.modelPaths[i] ?? '' },
      ...(kvBlocks !== undefined && { kvBlocks }),
      ...(contextLength !== undefined && { contextLength }),
    })),
    ...(kvBytes !== undefined && { kvBytes }),
    ...{ evictionPolicy, tenantMetrics },
    tuning: { file: options.tuningFile, budgetMs: tuningBudgetMs },
    bounds,
    lifecycle: {
      ...{ minWarm, wakeWaiting, wakeWaitMs, probeMs },
      ...(sleepAfterMs !== undefined && { sleepAfterMs }),
      ...(deviceBytes !== undefined && { deviceBytes }),
    },
    journal: {
      folder: join(config.server.dataDir, 'journal'),
      fsync: journalFsync,
      segmentBytes: journalSegmentBytes,
      maxReceipts,
    },
    tiers: {
      ...(kvRamBytes !== undefined && { ramBytes: kvRamBytes }),
      diskFolder: kvDiskFolder ?? join(config.server.dataDir, 'kv'),
      diskBytes: kvDiskBytes,
      writeThrough: kvWriteThrough,
    },
    maxBodyBytes: config.server.maxBodyBytes + POOL_BODY_MARGIN_BYTES,
    drainMs: config.server.drainMs,
    dawnFlags: options.dawnFlags,
  };
}

export function gatewaySectionOf(
  { config, adminKey, pepperHex }: LoadedConfig,
  { poolId, keyId, secretHex }: PoolIdentity,
  options: { poolPort: number; port: number | null },
): GatewaySectionInput {
  const { mode, host, dataDir, tls, behindTls, drainMs, maxBodyBytes } = config.server;
  const { chatMaxTokens, completionMaxTokens, devTokensPerDay, synchronous, publicPrefixes, ...limits } =
    config.gateway;
  const models = config.models.map(({ id }) => id);
  return {
    ...{ mode, host, dataDir, drainMs, synchronous, publicPrefixes },
    port: options.port ?? config.server.port,
    trustProxy: behindTls,
    ...(tls && { tls }),
    ...(adminKey !== null && { adminKey }),
    ...(pepperHex !== null && { peppers: [{ version: 1, secretHex: pepperHex }] }),
    pools: [{ id: poolId, url: `http://${POOL_HOST}:${options.poolPort}`, keyId, secretHex, models }],
    defaults: { chatMaxTokens, completionMaxTokens, devTokensPerDay },
    limits: { ...limits, maxBodyBytes },
  };
}
