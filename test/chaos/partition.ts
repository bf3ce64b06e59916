// A gateway and two pools, each on a host of its own, and the link to one of them cut without a word, in both directions and in either, slowed
// and healed, under clients that ask all the time. Nobody is killed: what was running on the other side of a cut runs on until its own side
// knows. Afterwards every request's fate, and the books.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { invariant } from '../../engine/invariant.ts';
import type { Receipt } from '../../pool/wire/events.ts';
import type { Tenant } from '../support/gatewayClient.ts';
import { GatewayProcess } from '../support/gatewayProcess.ts';
import { type Host, Network } from '../support/network.ts';
import { PAGED_POOL_MAIN } from '../support/pagedPool.ts';
import { faultsOf } from './books.ts';
import { type PartitionClient, runClients } from './partitionClients.ts';
import { namedOf, openPool, settled } from './stage.ts';

export type Phase = 'cut' | 'nothing reaches the pool' | 'nothing comes from the pool' | 'slow';

export interface PartitionOptions {
  /** One after another, each healed before the next. */
  phases: readonly { phase: Phase; lastsMs: number }[];
  requestTimeoutMs: number;
  say: (line: string) => void;
}

/** A phase as it was. Unix milliseconds. */
export interface Lived {
  phase: Phase;
  fromMs: number;
  healedMs: number;
}

export interface PartitionReport {
  lived: Lived[];
  clients: PartitionClient[];
  /** Of the pool behind the link: the last that it journalled of each request. */
  receipts: Receipt[];
  faults: string[];
  /** Requests that both pools have a receipt of. */
  moved: number;
}

const MODEL = 'bytes';
const CALM_MS = 3000;
/** After each phase: everything has to go its way again by then. */
const RECOVERS_WITHIN_MS = 10_000;
const [GATEWAY, FAR] = [0, 1];
/** For what a full link needs in milliseconds, and a wide one in seconds. */
const SLOW = { bitsPerSecond: 200_000, latencyMs: 400 };

/** Throws Error, with the kernel's words, where there may be no network of our own. */
export async function partition({ phases, requestTimeoutMs, say }: PartitionOptions): Promise<PartitionReport> {
  const network = Network.open(3);
  const folder = mkdtempSync(join(tmpdir(), 'hearth-partition-'));
  const [gatewayHost, farHost, nearHost] = network.hosts;
  invariant(gatewayHost && farHost && nearHost, 'there are three hosts');
  const open = (id: string, { within: [command = '', ...args], address: host }: Host) =>
    openPool(id, folder, {
      model: MODEL,
      engine: {
        model: { stepMs: 15, contextLength: 2048 },
        models: [{ id: MODEL, kvBlocks: 2048 }],
        section: { host },
        // Its supervisor is not on its host, and can't ask it anything.
        supervisor: { host, command, args: [...args, process.execPath, PAGED_POOL_MAIN], health: NEVER_ASKED },
      },
    });
  const pools = await Promise.all([open('far', farHost), open('near', nearHost)]);
  let gateway: GatewayProcess | null = null;
  try {
    gateway = await GatewayProcess.start(
      pools.map(({ pool }) => namedOf(pool, MODEL)),
      {
        ...{ host: network.frontAddress, trustProxy: true, peppers: [{ version: 1, secretHex: '5a'.repeat(32) }] },
        limits: { requestTimeoutMs, holdMarginMs: 1000 },
        routing: 'round-robin', // so that there is something under way on both sides
      },
      { within: gatewayHost.within },
    );
    const tenant: Tenant = await gateway.tenant([{ window: 'lifetime', limit_tokens: 100_000_000 }]);
    const stop = new AbortController();
    const lived: Lived[] = [];
    const [clients] = await Promise.all([
      runClients(gateway, { tenant, model: MODEL, boundMs: requestTimeoutMs + GRACE_MS }, stop.signal),
      live(network, phases, lived, say).finally(() => stop.abort()),
    ]);
    await settled(gateway, pools);
    await gateway.kill();
    const [far, near] = pools.map(({ archive }) => [...archive.receipts().values()]);
    invariant(far && near, 'both pools have journals');
    const receipts = [...far, ...near];
    const told = clients.flatMap(({ told }) => told ?? []);
    return {
      ...{ lived, clients, receipts: far },
      faults: faultsOf({ path: join(gateway.folder, 'gateway.sqlite'), receipts, tenants: [], told }),
      moved: receipts.length - new Set(receipts.map(({ request_id }) => request_id)).size,
    };
  } finally {
    await gateway?.stop();
    await Promise.all(pools.map((pool) => pool.close()));
    network.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

const NEVER_ASKED = {
  scheme: 'http' as const,
  path: '/',
  intervalMs: 1_000_000,
  timeoutMs: 1000,
  failures: 1_000_000,
};
/** The gateway's after a deadline, and a little for everything else. */
const GRACE_MS = 7000;

async function live(
  network: Network,
  phases: PartitionOptions['phases'],
  lived: Lived[],
  say: (line: string) => void,
): Promise<void> {
  await sleep(CALM_MS);
  for (const { phase, lastsMs } of phases) {
    const toFar = phase === 'cut' || phase === 'nothing reaches the pool';
    const fromFar = phase === 'cut' || phase === 'nothing comes from the pool';
    const fromMs = Date.now();
    if (phase === 'slow') network.slow(FAR, SLOW.bitsPerSecond, SLOW.latencyMs);
    if (toFar) network.cut(GATEWAY, FAR);
    if (fromFar) network.cut(FAR, GATEWAY);
    say(`${phase}, for ${lastsMs / 1000} s`);
    await sleep(lastsMs);
    if (phase === 'slow') network.atFullSpeed(FAR);
    if (toFar) network.heal(GATEWAY, FAR);
    if (fromFar) network.heal(FAR, GATEWAY);
    lived.push({ phase, fromMs, healedMs: Date.now() });
    await sleep(RECOVERS_WITHIN_MS);
  }
}
