// What a client asked as what the pool is told: output bound and seed made explicit, and everything left out that only the gateway
// or nobody needs (who the user is, metadata, whether the client streams, which salt selects the cache).
import type { SERVICE_TIERS } from '../../pool/wire/inference.ts';
import type { RandomBytes } from '../clock.ts';
import type { Inference } from './poolClient.ts';

type ServedTier = Exclude<(typeof SERVICE_TIERS)[number], 'auto'>;

const TIER_RANK = { flex: -1, default: 0, priority: 1 } as const;
/** More than a request's own priority can make up for: that is from -100 to 100. */
const RANK = 1000;

export interface Asked {
  /** Explicit max_tokens; null: the gateway chooses. */
  maxTokens: number | null;
  prompts: number;
  /** Choices per prompt. */
  n: number;
  stream: boolean;
  includeUsage: boolean;
  /** Among the waiting requests of its tenant: the tier first, then what the request says. */
  priority: number;
  /** As the answer tells it; null: none was asked for. */
  serviceTier: ServedTier | null;
}

export function askedOf(inference: Inference, prompts: number): Asked {
  const { request } = inference;
  const maxTokens =
    inference.kind === 'chat'
      ? (inference.request.max_completion_tokens ?? inference.request.max_tokens ?? null)
      : (inference.request.max_tokens ?? null);
  const serviceTier = request.service_tier === 'auto' ? 'default' : (request.service_tier ?? null);
  return {
    maxTokens,
    prompts,
    n: request.n ?? 1,
    stream: request.stream ?? false,
    includeUsage: request.stream_options?.include_usage ?? false,
    priority: RANK * TIER_RANK[serviceTier ?? 'default'] + (request.priority ?? 0),
    serviceTier,
  };
}

/** A whole number below 2^48: exact in JSON. */
export function drawSeed(random: RandomBytes): number {
  return Buffer.from(random(6)).readUIntBE(0, 6);
}

export function forPool(inference: Inference, outputTokens: number, seed: number): Inference {
  if (inference.kind === 'chat') {
    const bounds = { max_completion_tokens: outputTokens, seed };
    return { kind: 'chat', request: Object.assign(withoutGatewayFields(inference.request), bounds) };
  }
  const bounds = { max_tokens: outputTokens, seed };
  return { kind: 'completion', request: Object.assign(withoutGatewayFields(inference.request), bounds) };
}

/** Nor with the bound that the pool is told in another way. */
function withoutGatewayFields<T extends Inference['request'] & { store?: unknown }>(request: T) {
  const {
    user: _u,
    metadata: _m,
    service_tier: _t,
    stream: _s,
    stream_options: _o,
    priority: _p,
    cache_salt: _c,
    store: _k,
    max_tokens: _b,
    ...rest
  } = request;
  return rest;
}
