// The Worker's configuration: bindings, secrets and variables of its environment as one checked value. Parsed once per isolate and once per
// tenant's object. Messages name the variable and the field, and show no value: most of them are secrets.
import { createSecretKey, type KeyObject } from 'node:crypto';
import { z } from 'zod';
import { prefixDeclaration } from '../../pool/wire/publicPrefixes.ts';
import {
  adminKeySchema,
  billingSchema,
  ConfigError,
  defaultsSchema,
  isLoopback,
  limitsSchema,
  peppersSchema,
  poolSchema,
  routingSchema,
  secretHex,
} from '../config.ts';
import type { Keyring } from '../keys/keyring.ts';
import { keyringOf } from '../keys/secrets.ts';
import type { EdgeEnv, FetchBinding } from './cloudflare.ts';

const edgePool = poolSchema.extend({
  binding: z
    .string()
    .max(128)
    .optional()
    .describe('Binding of a Workers VPC service, or of a Worker, that its requests go through.'),
});

const settingsSchema = z.strictObject({
  defaults: defaultsSchema.omit({ devTokensPerDay: true }).prefault({}),
  limits: limitsSchema.prefault({}),
  billing: billingSchema.prefault({}),
  routing: routingSchema,
  publicPrefixes: z.array(prefixDeclaration).max(64).default([]),
  upkeep: z
    .strictObject({
      lookAfterMs: z
        .int()
        .min(1)
        .max(3_600_000)
        .default(30_000)
        .describe('Age at which an open hold is first asked about at its pool.'),
      feedDelayMs: z
        .int()
        .min(1)
        .max(3_600_000)
        .default(2000)
        .describe('What is settled within this goes to the usage table in one statement.'),
    })
    .prefault({}),
});

export type EdgeSettings = z.output<typeof settingsSchema>;

export interface EdgePool {
  id: string;
  url: string;
  keyId: string;
  secret: KeyObject;
  models: readonly string[];
  fetch: typeof fetch;
}

export interface EdgeConfig {
  settings: EdgeSettings;
  keyring: Keyring;
  pools: readonly EdgePool[];
}

/** Throws ConfigError. */
export function parseEnv(env: EdgeEnv): EdgeConfig {
  const settings = parse('HEARTH_SETTINGS', settingsSchema, json('HEARTH_SETTINGS', env.HEARTH_SETTINGS ?? '{}'));
  const pools = parse('HEARTH_POOLS', z.array(edgePool).max(256), json('HEARTH_POOLS', env.HEARTH_POOLS ?? '[]'));
  if (new Set(pools.map(({ id }) => id)).size < pools.length)
    throw new ConfigError('HEARTH_POOLS: two pools have the same id.');
  const peppers = parse('HEARTH_PEPPERS', peppersSchema(0), json('HEARTH_PEPPERS', env.HEARTH_PEPPERS));
  return {
    settings,
    keyring: keyringOf({
      adminKey: parse('HEARTH_ADMIN_KEY', adminKeySchema, env.HEARTH_ADMIN_KEY),
      namespaceSecretHex: parse('HEARTH_NAMESPACE_SECRET', secretHex, env.HEARTH_NAMESPACE_SECRET),
      peppers,
    }),
    pools: pools.map(({ id, url, keyId, models, binding, ...pool }) => ({
      ...{
        id,
        keyId,
        models,
        url: url.replace(/\/+$/, ''),
        secret: createSecretKey(Buffer.from(pool.secretHex, 'hex')),
      },
      fetch: fetchOf(env, id, url, binding),
    })),
  };
}

/** Through the binding where one is named: then the tunnel is what encrypts, and plain http is fine. */
function fetchOf(env: EdgeEnv, id: string, url: string, binding: string | undefined): typeof fetch {
  if (binding !== undefined) {
    const service = env[binding];
    if (!isFetchBinding(service))
      throw new ConfigError(`HEARTH_POOLS: pool ${id} names the binding ${binding}, which wrangler.toml doesn't have.`);
    return (input, init) => service.fetch(input, init);
  }
  if (url.startsWith('http:') && !isLoopback(new URL(url).hostname.replace(/^\[|\]$/g, '')))
    throw new ConfigError(`HEARTH_POOLS: pool ${id} has neither https nor a binding; use one of them.`);
  return (input, init) => fetch(input, init);
}

function isFetchBinding(value: unknown): value is FetchBinding {
  return typeof value === 'object' && value !== null && 'fetch' in value && typeof value.fetch === 'function';
}

function json(name: string, text: unknown): unknown {
  if (typeof text !== 'string') throw new ConfigError(`${name} is not set; see docs/deploy-cloudflare.md.`);
  try {
    return JSON.parse(text);
  } catch {
    throw new ConfigError(`${name} is not JSON.`);
  }
}

function parse<T extends z.ZodType>(name: string, schema: T, value: unknown): z.output<T> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const wrong = parsed.error.issues.map(({ path, message }) => `${[name, ...path].map(String).join('.')}: ${message}`);
  throw new ConfigError(`${wrong.join('; ')}.`);
}
