// hearth.config.json: every key with its meaning, range and default, in one place. The JSON Schema for editors and the table in
// docs/configuration.md are made from it (npm run config:schema). What belongs to one process alone is taken from that one's section.
import { z } from 'zod';
import { gatewaySection } from '../gateway/config.ts';
import { poolSection } from '../pool/config.ts';
import { upstreamIssue, upstreamShape } from '../pool/upstream/config.ts';
import { DEFAULT_MODEL } from './defaultModel.ts';

const {
  bounds,
  journal,
  kvBytes,
  tiers,
  evictionPolicy,
  tenantMetrics,
  tuning,
  lifecycle,
  models: poolModels,
  announce,
  metrics,
  pricePerHour,
  currency,
} = poolSection.shape;
const kvTiers = tiers.unwrap().shape;
const { mode, defaults, limits, billing, routing, publicPrefixes, synchronous, drainMs, tls } = gatewaySection.shape;
const { maxBodyBytes, ...gatewayLimits } = limits.unwrap().shape;
const { id, activations, kvFormat, contextLength, kvBlocks, kvWeight, speculation } = poolModels.element.shape;

const model = z.strictObject({
  id,
  source: z
    .string()
    .min(1)
    .max(1024)
    .describe('Where it comes from: file:path, hf:owner/repo/path@revision, or pypi:package==version/path.'),
  sha256: z
    .string()
    .regex(/^[0-9a-f]{64}$/, '64 hexadecimal digits in lower case')
    .optional()
    .describe('Pinned digest of the file. Anything else is refused.'),
  bytes: z.int().min(1).optional().describe('Size of the file, to check the room on the disk before fetching it.'),
  activations,
  kvFormat,
  contextLength,
  kvBlocks,
  kvWeight,
  speculation,
});
export type ModelEntry = z.infer<typeof model>;

const server = z.strictObject({
  mode,
  host: z
    .string()
    .min(1)
    .default('127.0.0.1')
    .describe(
      'Address to listen on. Another than loopback needs tls or behindTls, HEARTH_ADMIN_KEY and HEARTH_PEPPER.',
    ),
  port: z.int().min(0).max(65_535).default(8787).describe('Port to listen on; 0 takes any free one.'),
  tls,
  behindTls: z.boolean().default(false).describe('A proxy in front ends TLS.'),
  dataDir: z
    .string()
    .min(1)
    .default('.hearth')
    .describe('Folder of ledger, journal and keys; relative to the project.'),
  drainMs,
  maxBodyBytes,
});

const memoryBytes = z
  .int()
  .min(67_108_864)
  .optional()
  .describe('Resident memory of a pool process past which another takes its place: it ends what it has, and goes.');

const pool = z.strictObject({
  ...bounds.unwrap().shape,
  kvBytes,
  evictionPolicy,
  tenantMetrics,
  ...lifecycle.unwrap().shape,
  tuningBudgetMs: tuning.unwrap().shape.budgetMs,
  journalFsync: journal.shape.fsync,
  journalSegmentBytes: journal.shape.segmentBytes,
  maxReceipts: journal.shape.maxReceipts,
  kvRamBytes: kvTiers.ramBytes,
  kvDiskBytes: kvTiers.diskBytes,
  kvDiskFolder: kvTiers.diskFolder.describe(
    'Folder of sealed KV blocks; pools of one host may share it. Relative to the project; default: kv in the data folder.',
  ),
  kvWriteThrough: kvTiers.writeThrough,
  memoryBytes,
  pricePerHour,
  currency,
});

const { sleepAfterMs, deviceBytes, minWarm } = lifecycle.unwrap().shape;
const poolId = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'lower-case letters, digits and hyphens')
  .describe('Name of the pool: in logs, metrics and receipts.');

const ownPool = z.strictObject({
  id: poolId,
  kind: z.literal('hearth').optional().describe('Its engine is our own, on a GPU of this machine. Default.'),
  models: z.array(id).min(1).max(16).optional().describe('Names of the models that it serves. Default: all.'),
  adapter: z.string().min(1).max(256).optional().describe('Its GPU, where it is another than adapter says.'),
  kvBytes: kvBytes.describe('In place of pool.kvBytes.'),
  deviceBytes: deviceBytes.describe('In place of pool.deviceBytes.'),
  sleepAfterMs: sleepAfterMs.describe('In place of pool.sleepAfterMs.'),
  minWarm: minWarm.unwrap().optional().describe('In place of pool.minWarm.'),
  memoryBytes: memoryBytes.describe('In place of pool.memoryBytes.'),
  pricePerHour: pricePerHour.describe('In place of pool.pricePerHour.'),
});
export type OwnPool = z.infer<typeof ownPool>;

const foreignPool = z.strictObject({
  id: poolId,
  kind: z.literal('openai').describe('Its engine is a server of another make, which somebody else runs.'),
  ...upstreamShape,
  memoryBytes: memoryBytes.describe('In place of pool.memoryBytes.'),
});
export type ForeignPool = z.infer<typeof foreignPool>;

const poolEntry = z.discriminatedUnion('kind', [ownPool, foreignPool]);
export type PoolConfig = z.infer<typeof poolEntry>;

export const isForeign = (pool: PoolConfig): pool is ForeignPool => pool.kind === 'openai';

const { gateway: gatewayUrl, url } = announce.unwrap().shape;
const listener = poolSection.shape;
const enrolled = z
  .strictObject({
    id: poolId.describe('Name that the pool is enrolled under.'),
    keyFile: z
      .string()
      .min(1)
      .describe('File with the key that the enrolment answered: JSON with id and secret_hex. Relative to the project.'),
    gateway: gatewayUrl,
    url,
    host: listener.host,
    port: z.int().min(1).max(65_535).default(9000).describe('Port to listen on.'),
    tls: listener.tls,
    behindTls: listener.behindTls,
    metrics: metrics.describe(
      'A listener for /metrics alone, without a key. Default: only this machine may read them.',
    ),
  })
  .optional()
  .describe('This machine as one pool for a gateway elsewhere (npm run pool).');
export type EnrolledConfig = NonNullable<z.infer<typeof enrolled>>;

const gateway = z.strictObject({
  ...defaults.unwrap().shape,
  ...gatewayLimits,
  synchronous,
  billing,
  routing,
  publicPrefixes,
});

export const hearthConfig = z
  .strictObject({
    $schema: z.string().optional().describe('For editors: ./hearth.schema.json.'),
    adapter: z
      .string()
      .max(256)
      .default('auto')
      .describe('GPU adapter: auto, hardware, lavapipe, swiftshader, or a part of its name.'),
    modelCache: z
      .string()
      .min(1)
      .optional()
      .describe('Folder of fetched models. Default: hearth/models in the cache folder of the user.'),
    server: server.prefault({}),
    models: z
      .array(model)
      .max(16)
      .prefault([DEFAULT_MODEL])
      .describe('What pools of our own serve; those of foreign servers stand at their pools.'),
    gateway: gateway.prefault({}),
    pool: pool.prefault({}),
    pools: z
      .array(poolEntry)
      .max(64)
      .prefault([{ id: 'local' }])
      .describe(
        'The pool processes of this machine; what they have in common stands under pool. []: none, all are enrolled (docs/pools.md).',
      ),
    enrolled,
  })
  .superRefine(({ models, pools }, context) => {
    const refuse = (path: (string | number)[], message: string) => context.addIssue({ code: 'custom', path, message });
    if (new Set(pools.map((one) => one.id)).size < pools.length) refuse(['pools'], 'two pools have the same id');
    const serves = (pool: PoolConfig, name: string) => !isForeign(pool) && (pool.models?.includes(name) ?? true);
    for (const [i, one] of pools.entries()) {
      const issue = isForeign(one) ? upstreamIssue(one) : null;
      if (issue) refuse(['pools', i, ...issue.path], issue.message);
      for (const [j, name] of (isForeign(one) ? [] : (one.models ?? [])).entries())
        if (!models.some((model) => model.id === name))
          refuse(['pools', i, 'models', j], `there is no model ${JSON.stringify(name)} in models`);
    }
    if (models.length === 0 && !pools.every(isForeign)) refuse(['models'], 'a pool of our own serves at least one');
    for (const [i, { id: name }] of models.entries())
      if (pools.length > 0 && !pools.some((one) => serves(one, name)))
        refuse(['models', i], `no pool serves ${JSON.stringify(name)}; where all pools are foreign, models is []`);
  })
  .describe('Configuration of Hearth.');

export type HearthConfig = z.infer<typeof hearthConfig>;

/** Variables of the environment that win over the file. */
export const ENV_OVERRIDES = [
  { name: 'PORT', path: ['server', 'port'], integer: true },
  { name: 'HEARTH_HOST', path: ['server', 'host'], integer: false },
  { name: 'HEARTH_DATA_DIR', path: ['server', 'dataDir'], integer: false },
  { name: 'HEARTH_ADAPTER', path: ['adapter'], integer: false },
  { name: 'HEARTH_MODEL_CACHE', path: ['modelCache'], integer: false },
  { name: 'HEARTH_POOL_ID', path: ['enrolled', 'id'], integer: false },
  { name: 'HEARTH_POOL_URL', path: ['enrolled', 'url'], integer: false },
] as const;

/** Variables without a key in the file, because what they hold must not stand in one or decides which one is read. */
export const ENV_ONLY = [
  {
    name: 'HEARTH_ADMIN_KEY',
    meaning: 'Admin key, `sk-admin-…`. In development mode on loopback one is made at the first start.',
  },
  {
    name: 'HEARTH_PEPPER',
    meaning:
      'Pepper of stored keys, 32 bytes as 64 hex digits. Made at the first start if absent; needed beyond loopback.',
  },
  { name: 'HEARTH_CONFIG', meaning: 'Another file than `hearth.config.json`.' },
  { name: 'HF_ENDPOINT, HF_TOKEN', meaning: 'Another model hub for `hf:` sources; a token for gated models.' },
] as const;
