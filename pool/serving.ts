// What a pool process of any kind does between its `ready` and its end: listens, keeps its journal alive, announces itself, and either drains
// when it is asked to stop, or tells everybody that its engine is gone.
import { createSecretKey } from 'node:crypto';
import type { Hono } from 'hono';
import { Announcer } from './announcer.ts';
import type { Identity } from './authenticate.ts';
import type { PoolSection } from './config.ts';
import { metricsApp } from './door.ts';
import { poolStopping } from './errors.ts';
import type { Failure } from './generation.ts';
import { Journal } from './journal.ts';
import { type Listening, listen } from './listen.ts';
import type { Log } from './log.ts';
import type { ProcessIo } from './processProtocol.ts';
import type { PoolStatus } from './wire/events.ts';

/** How often a journal that failed is tried again. */
const HEAL_INTERVAL_MS = 1000;
/** How often the supervisor is told how much memory the process takes. */
const MEMORY_INTERVAL_MS = 2000;
/** For last events to reach their sockets. */
const FLUSH_LIMIT_MS = 2000;
/** How often idleness is looked at, while nothing else happens. */
const TICK_MS = 250;

/** Only a new process brings back what computes. */
interface Down {
  code: string;
  message: string;
}

export interface Served {
  app: Hono;
  journal: Journal;
  requests: { idle(): Promise<void>; failAll(failure: Failure): void };
  status: () => PoolStatus;
  metricsText: () => Promise<string>;
  /** Refuses new requests; running ones go on. */
  drain: () => void;
  tick: () => void;
  stopped: () => void;
  /** Resolves if that happens. */
  down: Promise<Down>;
  /** What computes, for the log. */
  adapter: string;
}

export type ServingSection = Pick<
  PoolSection,
  'host' | 'port' | 'tls' | 'metrics' | 'drainMs' | 'announce' | 'poolId' | 'keys'
>;

/** What the last process left in it is told to the log. Throws JournalLocked or JournalUnavailable. */
export function openJournal({ folder, fsync, segmentBytes }: PoolSection['journal'], log: Log): Journal {
  const journal = new Journal({ folder, fsync, segmentBytes, now: Date.now });
  log('info', 'journal_open', {
    receipts: journal.book.size,
    lost: journal.lostRequests,
    damaged_lines: journal.damagedLines,
  });
  return journal;
}

/** Names and secrets of the keys that requests may be signed with. */
export function identityOf({ poolId, keys }: ServingSection, startedAtMs: number): Identity {
  return {
    poolId,
    startedAtMs,
    secrets: new Map(keys.map(({ id, secretHex }) => [id, createSecretKey(secretHex, 'hex')])),
  };
}

/** Resolves with the exit code. Throws ListenError, CertificateError. */
export async function serve(
  { say, log }: Pick<ProcessIo, 'say'> & { log: Log },
  section: ServingSection,
  served: Served,
  stop: Promise<void>,
): Promise<number> {
  const listening = await listen(served.app, section, log);
  const collected = section.metrics && (await listen(metricsApp(served.metricsText), section.metrics, log));
  const healing = setInterval(() => served.journal.heal(), HEAL_INTERVAL_MS);
  const ticking = setInterval(served.tick, TICK_MS);
  const leaving = new AbortController();
  const announcing = announcer(section, served, log)?.run(leaving.signal);
  const weighing = setInterval(() => say({ type: 'memory', rssBytes: process.memoryUsage.rss() }), MEMORY_INTERVAL_MS);
  const collapse = async ({ code, message }: Down): Promise<number> => {
    log('error', 'engine_down', { code, error: message });
    served.drain();
    const error = poolStopping('The engine of this pool stopped; try again.');
    served.requests.failAll({ error, outcome: 'failed' });
    await listening.close(FLUSH_LIMIT_MS);
    say({ type: 'fatal', code, message });
    return 1;
  };
  try {
    log('info', 'ready', { port: listening.port, adapter: served.adapter });
    say({ type: 'ready', port: listening.port });
    const down = (await Promise.race([stop, served.down])) ?? (await drained(section.drainMs, served));
    if (down) return await collapse(down);
    await end(served, listening);
    log('info', 'stopped');
    return 0;
  } finally {
    clearInterval(healing);
    await collected?.close(0);
    leaving.abort();
    await announcing;
    clearInterval(ticking);
    clearInterval(weighing);
  }
}

/** Running requests finish, bounded by `drainMs`; receipts can be fetched all the while. Resolves with what went down meanwhile. */
async function drained(drainMs: number, { drain, requests, down }: Served): Promise<Down | null> {
  drain();
  const bound = new AbortController();
  const timeout = new Promise<null>((resolve) => {
    const timer = setTimeout(() => resolve(null), drainMs);
    bound.signal.addEventListener('abort', () => clearTimeout(timer));
  });
  const first = await Promise.race([requests.idle().then(() => null), timeout, down]);
  bound.abort();
  return first;
}

async function end({ requests, stopped }: Served, listening: Listening): Promise<void> {
  const error = poolStopping('This pool stopped before the request was finished.');
  requests.failAll({ error, outcome: 'cancelled' });
  await listening.close(FLUSH_LIMIT_MS);
  stopped();
}

function announcer({ announce, poolId, keys }: ServingSection, { status }: Served, log: Log): Announcer | null {
  const [key] = keys;
  if (!announce || !key) return null;
  return new Announcer({
    ...{ url: announce.url, gateway: announce.gateway.replace(/\/+$/, ''), intervalMs: announce.intervalMs, poolId },
    key: { id: key.id, secret: Buffer.from(key.secretHex, 'hex') },
    ...{ status, log },
  });
}
