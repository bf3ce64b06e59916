// Which pools there are: those of the configuration, always, and those enrolled that have been heard lately. It keeps the registry in step
// with that; no gateway starts again to gain or lose one.
//
//   heartbeat ─▶ signed, enrolled, from an allowed origin, newer? ─▶ store ─▶ registry        silence ─▶ out
import { createSecretKey } from 'node:crypto';
import { OUT_AFTER_MS } from '../../pool/wire/heartbeat.ts';
import { verifyRequest } from '../../pool/wire/signing.ts';
import type { Clock } from '../clock.ts';
import type { Keyring } from '../keys/keyring.ts';
import { errorFields, type Log } from '../log.ts';
import { PoolClient } from '../relay/poolClient.ts';
import type { KnownPool, PoolRegistry } from '../relay/poolRegistry.ts';
import type { PoolPorts } from '../relay/poolRequest.ts';
import { poolKey } from './poolKey.ts';
import type { Announcement, EnrolledPool, PoolStore } from './port.ts';

export interface DirectoryOptions {
  store: PoolStore;
  registry: PoolRegistry;
  configured: readonly KnownPool[];
  keyring: Keyring;
  /** How enrolled pools are reached. */
  ports: PoolPorts;
  log: Log;
}

/** A heartbeat as it came, its body not looked into yet. */
export interface SignedHeartbeat {
  method: string;
  path: string;
  header: (name: string) => string | undefined;
  body: Uint8Array;
}

export class PoolDirectory {
  readonly store: PoolStore;
  readonly #options: DirectoryOptions;
  readonly #clock: Clock;
  #configured: readonly KnownPool[];
  #present: readonly KnownPool[] = [];
  #refreshedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: DirectoryOptions) {
    this.store = options.store;
    this.#options = options;
    this.#clock = options.ports.clock;
    this.#configured = options.configured;
  }

  isConfigured(id: string): boolean {
    return this.#configured.some(({ client }) => client.target.id === id);
  }

  /** Other pools of the configuration from now on: those that go do so when those that come have told how they are. */
  async configure(pools: readonly KnownPool[]): Promise<void> {
    await this.#options.registry.adopt([...pools, ...this.#present]);
    this.#configured = pools;
  }

  /** Takes over what the store has. Never rejects: where it can't be read, those that are known stay. */
  async refresh(): Promise<void> {
    const { store, registry, log } = this.#options;
    try {
      const nowMs = this.#clock.now();
      const heard = (await store.list()).filter(({ id }) => !this.isConfigured(id));
      const present = heard.flatMap((pool) => {
        const { announced } = pool;
        return announced && nowMs - announced.heardAtMs <= OUT_AFTER_MS ? { pool, announced } : [];
      });
      this.#present = present.map(({ pool, announced }) => this.#known(pool, announced));
      this.#refreshedAtMs = nowMs;
      registry.replace([...this.#configured, ...this.#present]);
      for (const { pool, announced } of present) registry.heard(pool.id, announced.status, announced.heardAtMs);
    } catch (error) {
      log.error('pools_unreadable', errorFields(error));
    }
  }

  /** The same where what is known is older. Waits only where nothing is known yet; otherwise `later` goes on beside the caller. */
  async fresh(ageMs: number, later: (work: Promise<unknown>) => void): Promise<void> {
    if (this.#clock.now() - this.#refreshedAtMs <= ageMs) return;
    const refreshing = this.refresh();
    if (this.#refreshedAtMs === Number.NEGATIVE_INFINITY) await refreshing;
    else later(refreshing);
  }

  /** Whose heartbeat it is, by its signature; else why it is nobody's. */
  async signer(message: SignedHeartbeat): Promise<{ pool: EnrolledPool; signedAtMs: number } | { reason: string }> {
    const pool = await this.store.get(message.header('hearth-pool-id') ?? '');
    if (!pool) return { reason: 'the pool is not enrolled here' };
    const secretOf = (keyId: string) => (keyId === pool.keyId ? poolKey(this.#options.keyring, pool) : undefined);
    const verified = verifyRequest(secretOf, message, this.#clock.now());
    if (!verified.ok) return { reason: verified.reason };
    return { pool, signedAtMs: verified.context.timeMs };
  }

  /** False when something newer was told before, or the pool was removed meanwhile. */
  async announce(pool: EnrolledPool, announcement: Announcement): Promise<boolean> {
    const counts = await this.store.announce(pool.id, announcement);
    if (counts) await this.refresh();
    return counts;
  }

  #known(pool: EnrolledPool, { url, status }: Announcement): KnownPool {
    const target = {
      id: pool.id,
      url: url.replace(/\/+$/, ''),
      keyId: pool.keyId,
      secret: createSecretKey(poolKey(this.#options.keyring, pool)),
    };
    return { client: new PoolClient(target, this.#options.ports), models: status.models.map(({ id }) => id) };
  }
}

/** Where a pool may be: https, or this machine. */
export function isAllowedOrigin(origin: string): boolean {
  const url = URL.parse(origin);
  if (url?.origin !== origin) return false;
  return url.protocol === 'https:' || (url.protocol === 'http:' && LOOPBACK.test(url.hostname));
}

const LOOPBACK = /^(127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\]|localhost)$/;
