// The gateway's section of the configuration, as its process gets it on stdin: complete, every default documented, unknown keys
// refused. What would be unsafe together (an open address without an explicit admin key, pepper and TLS) is refused here.
import { z } from 'zod';
import { certificateFiles } from '../pool/wire/certificateFiles.ts';
import { declarationBytes, PREFIX_LIMITS, prefixDeclaration } from '../pool/wire/publicPrefixes.ts';
import { ADMIN_KEY_MIN_LENGTH } from './keys/adminKey.ts';
import { ROUTING_POLICY_NAMES } from './routing/policies.ts';

export const secretHex = z.string().regex(/^([0-9a-f]{2}){32,64}$/, 'must be 32 to 64 bytes in lower-case hex');
const milliseconds = z.int().min(1).max(86_400_000);

/** A pool, as a host is told of it. */
export const poolSchema = z.strictObject({
  id: z.string().min(1).max(128).describe('The pool id that requests are signed for.'),
  url: z.url({ protocol: /^https?$/ }).describe('Base address of the pool. https, unless it is on this machine.'),
  keyId: z.string().min(1).max(128).describe('Id of the key that both sides sign with.'),
  secretHex: secretHex.describe('That key: 32 bytes in hex.'),
  models: z
    .array(z.string().min(1).max(256))
    .max(64)
    .default([])
    .describe('Models it serves, so that they are known before it is up.'),
});

export const defaultsSchema = z.strictObject({
  chatMaxTokens: z.int().min(1).default(1024).describe('Output tokens per choice of a chat that names no limit.'),
  completionMaxTokens: z
    .int()
    .min(1)
    .default(16)
    .describe('Output tokens per choice of a completion that names no limit, as OpenAI.'),
  devTokensPerDay: z
    .int()
    .min(0)
    .default(1_000_000)
    .describe('Daily token quota of the project "dev" when it is first made.'),
});

export const limitsSchema = z.strictObject({
  maxBodyBytes: z
    .int()
    .min(1024)
    .default(8 * 1024 * 1024)
    .describe('Largest request body.'),
  maxConcurrentRequests: z.int().min(1).default(512).describe('Inference requests at once; more are refused with 503.'),
  requestTimeoutMs: milliseconds.default(600_000).describe('Longest time of one request; pools enforce it.'),
  holdMarginMs: milliseconds
    .default(30_000)
    .describe('A hold becomes unresolved this long after its request had to end.'),
  keepAliveMs: milliseconds
    .default(15_000)
    .describe('A stream without news for this long sends a comment, so that nobody between takes it for dead.'),
  idempotencyKeepMs: z
    .int()
    .min(1)
    .max(30 * 86_400_000)
    .default(86_400_000)
    .describe('So long an Idempotency-Key stands for its request, and its answer is given again.'),
  failoverWaitMs: z
    .int()
    .min(0)
    .max(86_400_000)
    .default(15_000)
    .describe('A request whose pool failed waits so long for another, or the same again, to go on at.'),
  headersTimeoutMs: milliseconds.default(15_000).describe('A request’s headers must have come within this.'),
  bodyTimeoutMs: milliseconds.default(60_000).describe('A request must have come whole within this.'),
});

export const billingSchema = z.strictObject({
  accountId: z.string().min(1).max(256).default('hearth').describe('BillingAccountId of FOCUS exports.'),
  accountName: z.string().min(1).max(256).default('Hearth').describe('BillingAccountName of FOCUS exports.'),
  issuerName: z
    .string()
    .min(1)
    .max(256)
    .default('Hearth')
    .describe('Who bills, as FOCUS exports name it: issuer, provider and publisher.'),
});

export const routingSchema = z
  .enum(ROUTING_POLICY_NAMES)
  .default('prefix-affine')
  .describe('Which of several pools gets a request (docs/pools.md).');

/** Version 0 is the one that a host generated itself, where it does that. */
export const peppersSchema = (leastVersion: 0 | 1) =>
  z
    .array(z.strictObject({ version: z.int().min(leastVersion), secretHex }))
    .min(1)
    .max(8)
    .refine((list) => new Set(list.map(({ version }) => version)).size === list.length, 'versions must differ');

export const adminKeySchema = z.string().min(ADMIN_KEY_MIN_LENGTH).max(256);

/** The section reaches its process on stdin, as a line of at most 1 MiB. */
const MAX_CONFIGURED_PREFIX_BYTES = 512 * 1024;

const LOOPBACK = /^(127\.\d{1,3}\.\d{1,3}\.\d{1,3}|::1|localhost)$/;

export function isLoopback(host: string): boolean {
  return LOOPBACK.test(host);
}

export const gatewaySection = z
  .strictObject({
    mode: z
      .enum(['development', 'production'])
      .default('development')
      .describe('Only development makes credentials by itself.'),
    host: z.string().min(1).default('127.0.0.1').describe('Address to listen on.'),
    port: z.int().min(0).max(65_535).default(8787).describe('Port to listen on; 0 takes any.'),
    dataDir: z.string().min(1).describe('Folder of the database and of generated secrets.'),
    adminKey: adminKeySchema.optional().describe('sk-admin-…; generated in development.'),
    peppers: peppersSchema(1)
      .optional()
      .describe('Peppers of stored keys. The highest version hashes, the others only verify. Generated if absent.'),
    namespaceSecretHex: secretHex
      .optional()
      .describe('Derives key tags and cache scopes; never change it. Generated if absent.'),
    tls: certificateFiles.optional().describe('Terminates TLS here, 1.2 or newer.'),
    trustProxy: z.boolean().default(false).describe('Declares that a proxy in front terminates TLS.'),
    pools: z.array(poolSchema).max(256).default([]).describe('The pools that serve.'),
    defaults: defaultsSchema.prefault({}),
    limits: limitsSchema.prefault({}),
    billing: billingSchema.prefault({}),
    routing: routingSchema,
    publicPrefixes: z
      .array(prefixDeclaration)
      .max(PREFIX_LIMITS.prefixes)
      .refine(
        (list) => list.reduce((sum, one) => sum + declarationBytes(one), 0) <= MAX_CONFIGURED_PREFIX_BYTES,
        `more than ${MAX_CONFIGURED_PREFIX_BYTES} bytes in all; declare the longer ones by POST /v1/organization/public_prefixes`,
      )
      .default([])
      .describe('Beginnings of prompts whose cached blocks all projects share; more can be declared while it runs.'),
    synchronous: z
      .enum(['NORMAL', 'FULL'])
      .default('NORMAL')
      .describe('FULL also survives power loss, for one disk sync per step.'),
    drainMs: milliseconds.default(30_000).describe('Time for running requests to end at shutdown.'),
  })
  .superRefine((section, context) => {
    const refuse = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message });
    if (section.mode === 'production' && section.adminKey === undefined)
      refuse('adminKey', 'production needs an explicit admin key: set HEARTH_ADMIN_KEY');
    if (new Set(section.pools.map(({ id }) => id)).size < section.pools.length)
      refuse('pools', 'two pools have the same id');
    for (const { id, url } of section.pools)
      if (url.startsWith('http:') && !isLoopback(new URL(url).hostname.replace(/^\[|\]$/g, '')))
        refuse('pools', `pool ${id} is not on this machine: use https`);
    if (isLoopback(section.host)) return;
    if (section.adminKey === undefined) refuse('adminKey', `listening on ${section.host} needs an explicit admin key`);
    if (section.peppers === undefined) refuse('peppers', `listening on ${section.host} needs an explicit pepper`);
    if (!section.trustProxy && !section.tls)
      refuse(
        'tls',
        `listening on ${section.host} needs TLS: give certificate files, or put a proxy that terminates it in front and set trustProxy`,
      );
  });

export type GatewaySection = z.output<typeof gatewaySection>;
export type GatewaySectionInput = z.input<typeof gatewaySection>;

export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/** Throws ConfigError that names every wrong key; values, which may be secrets, are not shown. */
export function parseSection(value: unknown): GatewaySection {
  const parsed = gatewaySection.safeParse(value);
  if (parsed.success) return parsed.data;
  const wrong = parsed.error.issues.map(
    ({ path, message }) => `${path.map(String).join('.') || 'section'}: ${message}`,
  );
  throw new ConfigError(`The gateway's configuration is not valid. ${wrong.join('; ')}.`);
}
