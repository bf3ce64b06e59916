// A process that opens files until it may open no more, and asks a pool meanwhile: what it makes of that, as JSON.
import { createSecretKey, randomBytes } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { systemClock } from '../../gateway/clock.ts';
import { PoolConnections } from '../../gateway/poolConnections.ts';
import { PoolClient } from '../../gateway/relay/poolClient.ts';
import { PoolRegistry } from '../../gateway/relay/poolRegistry.ts';
import { PoolRequestError } from '../../gateway/relay/poolRequest.ts';

const [, , url = '', secretHex = ''] = process.argv;
const target = { id: 'pool-a', url, keyId: 'key-1', secret: createSecretKey(secretHex, 'hex') };
const clientOf = (connections: PoolConnections) =>
  new PoolClient(target, { fetch: connections.fetch, clock: systemClock, random: (count) => randomBytes(count) });
// One without a connection that is open already.
let connections = new PoolConnections();
const fetching: typeof connections.fetch = (...asked) => connections.fetch(...asked);
const client = new PoolClient(target, { fetch: fetching, clock: systemClock, random: (count) => randomBytes(count) });
const registry = new PoolRegistry([{ client, models: ['tiny'] }], systemClock);
const [pool] = registry.pools;

async function asked(): Promise<{ failures: number | undefined; chosen: string }> {
  if (pool) await registry.refresh(pool);
  return { failures: pool?.failures, chosen: registry.choose('tiny').kind };
}

const ready = await asked();
connections.close();
connections = new PoolConnections();
const files: number[] = [];
try {
  for (;;) files.push(openSync('/dev/null', 'r'));
} catch {
  // None is left.
}
const failure = await clientOf(connections)
  .status()
  .catch((error: unknown) => (error instanceof PoolRequestError ? error.failure : String(error)));
const starved = { ...(await asked()), failure };
for (const file of files) closeSync(file);
const fed = await asked();
console.log(JSON.stringify({ ready, starved, fed }));
connections.close();
