// What a pool tells a gateway now and then, signed with the pool's key, so that it is known to be there, and where: POST /v1/pools/heartbeat.
// It counts when it is newer than the one before, by the pool's own clock.
import { z } from 'zod';
import { poolStatus } from './events.ts';

export const HEARTBEAT_PATH = '/v1/pools/heartbeat';

/** A pool is out when the gateway has heard nothing for so long: several heartbeats. */
export const OUT_AFTER_MS = 15_000;

/** Largest body: as many models as a pool may have are a few kilobytes. */
export const MAX_HEARTBEAT_BYTES = 65_536;

export const heartbeat = z.strictObject({
  /** Where the gateway reaches it. */
  url: z.url({ protocol: /^https?$/ }).max(1024),
  status: poolStatus,
});
export type Heartbeat = z.infer<typeof heartbeat>;
