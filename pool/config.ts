// The pool process' section of the configuration. It comes as one JSON line on stdin, so that no secret stands in argv or in the
// environment, and is checked here once; the rest of the pool trusts it.
import { z } from 'zod';
import { EVICTION_POLICIES } from '../engine/eviction/policies.ts';
import { certificateFiles } from './wire/certificateFiles.ts';
import { currency, pricePerHour } from './wire/service.ts';

/** Floors and weights per tenant, over the policy that learns. */
const DEFAULT_EVICTION = 'multi-tenant';

const port = z.int().min(0).max(65_535);

/** A step of the smallest engine has 16 rows of logits: one to the last token, the rest to drafts. */
const MAX_DRAFT_TOKENS = 15;

const speculation = z.strictObject({
  kind: z
    .enum(['ngram', 'off'])
    .default('ngram')
    .describe(
      'Whether output tokens are guessed and computed ahead. ngram: what followed when the last tokens occurred before, in prompt or output. The answer is the same, bit for bit.',
    ),
  maxDraftTokens: z
    .int()
    .min(1)
    .max(MAX_DRAFT_TOKENS)
    .default(8)
    .describe('Most guesses per sequence and step. How many pay is measured all the while; this bounds it.'),
});

const servedModelSection = z.strictObject({
  id: z.string().min(1).max(256).describe('Name under which the model is served.'),
  path: z.string().min(1).describe('The model file, already resolved and checked.'),
  activations: z.enum(['int8', 'f32']).default('int8').describe('Numerics class of the activations.'),
  kvFormat: z
    .enum(['f16', 'f32', 'int8', 'int4'])
    .default('f16')
    .describe(
      'How keys and values are cached: int8 takes half the memory of f16, int4 a quarter, each at some quality.',
    ),
  contextLength: z
    .int()
    .min(16)
    .optional()
    .describe('Most positions of one sequence; at most what the model was made for.'),
  kvBlocks: z
    .int()
    .min(2)
    .optional()
    .describe('Blocks of 16 tokens in the KV arena. Default: a share of pool.kvBytes, or 1024 where that is not set.'),
  kvWeight: z
    .number()
    .gt(0)
    .max(1000)
    .default(1)
    .describe('Share of pool.kvBytes beside the other models that have no kvBlocks.'),
  speculation: speculation.prefault({}),
});

const bounds = z.strictObject({
  maxRunning: z.int().min(1).max(256).default(16).describe('Sequences that share a step.'),
  maxStepTokens: z
    .int()
    .min(1)
    .max(8192)
    .optional()
    .describe(
      'Tokens computed in one step, over all sequences: more is throughput of prompts, fewer is latency of streams. Default: 256 on a GPU, 64 on a software adapter.',
    ),
  maxWaiting: z.int().min(1).max(100_000).default(512).describe('Sequences that wait; past it a request is refused.'),
  maxWaitingTokens: z
    .int()
    .min(1)
    .default(2_097_152)
    .describe('Prompt and possible output tokens that wait; past it a request is refused.'),
  maxWaitingPerTenant: z.int().min(1).max(100_000).default(256).describe('The same bound for one tenant: sequences.'),
  maxWaitingTokensPerTenant: z.int().min(1).default(1_048_576).describe('The same bound for one tenant: tokens.'),
  cachedTokenCost: z
    .number()
    .min(0)
    .max(1)
    .default(0.1)
    .describe(
      'What a prompt token that a cache answered counts when tenants take turns; a computed one counts 1, an output token 2.',
    ),
});
export type EngineBounds = z.infer<typeof bounds>;

const journalSection = z.strictObject({
  folder: z.string().min(1).describe('Folder of the receipts journal; one process at a time.'),
  fsync: z
    .enum(['none', 'each'])
    .default('none')
    .describe('none: survives the death of the process. each: survives the loss of power, at one flush per step.'),
  segmentBytes: z.int().min(4096).default(4_194_304).describe('A segment is compacted once it is larger.'),
  maxReceipts: z.int().min(1).default(50_000).describe('Unacknowledged receipts; past it requests are refused.'),
});

const tiersSection = z.strictObject({
  ramBytes: z
    .int()
    .min(0)
    .optional()
    .describe(
      'Host memory for KV blocks that left the GPU. Default: 1 GiB, or a quarter of the free memory where that is less.',
    ),
  diskFolder: z
    .string()
    .min(1)
    .optional()
    .describe('Folder of sealed KV blocks; pools of one host may share it. Without it none are written.'),
  diskBytes: z.int().min(0).default(8_589_934_592).describe('Disk for KV blocks. 0: none are written.'),
  writeThrough: z
    .boolean()
    .default(true)
    .describe(
      'KV blocks are written to disk when they are complete, so that a restart and other pools find them; false: when they leave the memory.',
    ),
});
export type TiersSection = z.infer<typeof tiersSection>;

const tuningSection = z.strictObject({
  file: z.string().min(1).describe('What was measured, of all adapters and models; processes may share it.'),
  budgetMs: z
    .int()
    .min(0)
    .max(600_000)
    .default(6000)
    .describe(
      'How long a start may measure kernel variants that it has not measured before. 0: they are chosen by rule. The same bits either way.',
    ),
});
export type TuningSection = z.infer<typeof tuningSection>;

const lifecycleSection = z.strictObject({
  sleepAfterMs: z
    .int()
    .min(0)
    .max(86_400_000)
    .optional()
    .describe(
      'A model that nobody asked for so long gives its device memory back: weights wait in host memory, KV in the tiers. Without it none does.',
    ),
  minWarm: z.int().min(0).max(16).default(0).describe('Models that stay warm all the same: those used last.'),
  deviceBytes: z
    .int()
    .min(1)
    .optional()
    .describe(
      'Device memory for all models of a pool together. Where a model needs room, the one that was used least recently sleeps.',
    ),
  wakeWaiting: z
    .int()
    .min(0)
    .max(100_000)
    .default(256)
    .describe('Requests that wait while a model wakes; past it they are refused with the time to come again.'),
  wakeWaitMs: z.int().min(0).max(600_000).default(30_000).describe('How long they wait.'),
  probeMs: z
    .int()
    .min(0)
    .max(86_400_000)
    .default(60_000)
    .describe(
      'A warm model that computed nothing for so long generates a token, to see that it can. 0: it never does.',
    ),
});

const announceSection = z.strictObject({
  gateway: z
    .url({ protocol: /^https?$/ })
    .refine((url) => url.startsWith('https:') || isLoopback(new URL(url).hostname.replace(/^\[|\]$/g, '')), {
      message: 'a gateway on another machine is reached by https',
    })
    .describe('Address of the gateway that this pool is enrolled at.'),
  url: z.url({ protocol: /^https?$/ }).describe('Address of this pool, as that gateway reaches it.'),
  intervalMs: z.int().min(100).max(60_000).default(3000).describe('How often it is told.'),
});

/** Whether a host is this machine. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);
}

/** Requests and answers can't be read by who is between. */
export function isProtected({ host, tls, behindTls }: { host: string; tls?: unknown; behindTls: boolean }): boolean {
  return isLoopback(host) || tls !== undefined || behindTls;
}

export const UNPROTECTED = {
  path: ['host'],
  message:
    'an address beyond loopback needs TLS: give certificate files as tls, or put a terminating proxy in front and set behindTls',
};

const metricsSection = z.strictObject({
  host: z.string().min(1).default('127.0.0.1').describe('Address of the listener of /metrics.'),
  port: port.describe('Its port; 0 takes any.'),
});

export const poolSection = z
  .strictObject({
    host: z.string().default('127.0.0.1').describe('Address to listen on.'),
    port: port.default(0).describe('0: any free port, told in the ready message.'),
    tls: certificateFiles.optional().describe('Terminates TLS here, 1.2 or newer.'),
    behindTls: z.boolean().default(false).describe('A proxy in front ends TLS: allows an address beyond loopback.'),
    metrics: metricsSection.optional(),
    poolId: z.string().min(1).max(128).describe('Name of this pool; requests are signed for it.'),
    keys: z
      .array(z.strictObject({ id: z.string().min(1).max(128), secretHex: z.string().regex(/^[0-9a-f]{64}$/) }))
      .min(1)
      .max(16)
      .describe('Keys that may sign requests: 32 bytes each, as hex. Several while they rotate.'),
    models: z.array(servedModelSection).min(1).max(16),
    kvBytes: z
      .int()
      .min(1)
      .optional()
      .describe('Device memory for the KV of all models together. Without it each has its kvBlocks.'),
    bounds: bounds.prefault({}),
    journal: journalSection,
    tiers: tiersSection.prefault({}),
    evictionPolicy: z
      .enum(Object.keys(EVICTION_POLICIES))
      .default(DEFAULT_EVICTION)
      .describe(
        'Which cached KV block leaves when one is needed. Only the multi-tenant ones look at tenants; default and the others see one account.',
      ),
    lifecycle: lifecycleSection.prefault({}),
    announce: announceSection.optional(),
    tuning: tuningSection.optional(),
    pricePerHour: pricePerHour.optional(),
    currency: currency.default('USD'),
    tenantMetrics: z
      .int()
      .min(0)
      .max(100)
      .default(0)
      .describe('Tenants per engine that /metrics names, the largest; the others are one series. 0: none.'),
    maxBodyBytes: z.int().min(1024).default(8_388_608).describe('Largest request body.'),
    drainMs: z.int().min(0).max(600_000).default(30_000).describe('How long running requests may finish after a stop.'),
    dawnFlags: z.array(z.string()).max(64).default([]).describe('Toggles for the WebGPU implementation.'),
  })
  .refine(isProtected, UNPROTECTED)
  .refine((section) => new Set(section.models.map((model) => model.id)).size === section.models.length, {
    path: ['models'],
    message: 'two models have the same id',
  });

export type PoolSection = z.infer<typeof poolSection>;
export type PoolModelSection = PoolSection['models'][number];
export type ListenSection = Pick<PoolSection, 'host' | 'port'> & { tls?: PoolSection['tls'] };
export type SpeculationSection = PoolModelSection['speculation'];
