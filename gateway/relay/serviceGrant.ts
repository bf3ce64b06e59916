// What a pool is told of how to serve a request: its order within the tenant, the tenant's shares, and the prefix cache that the
// project's policy and the request's own wishes select between them. A request can narrow its cache or do without, never widen it.
import type { ProjectService } from '../directory/port.ts';
import type { Keyring } from '../keys/keyring.ts';
import type { Inference } from './poolClient.ts';
import type { ServiceGrant } from './poolRequest.ts';

export function serviceGrant(
  { tenantCaches }: Keyring,
  { policy, cacheSalt }: ProjectService,
  { tenant, keyId }: { tenant: string; keyId: string },
  request: Inference['request'],
  priority: number,
): ServiceGrant {
  const { weight, kvFloorShare, cacheScope } = policy;
  const grant = { priority, weight, kvFloorShare };
  if (cacheSalt === null || cacheScope === 'none' || request.cache === false) return grant;
  const { namespace, seal } = tenantCaches.of(cacheSalt, tenant, {
    ...(cacheScope === 'api_key' && { keyId }),
    ...(typeof request.cache_salt === 'string' && { requestSalt: request.cache_salt }),
  });
  return { ...grant, cacheScope: namespace, cacheSeal: seal };
}
