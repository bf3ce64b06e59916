// Everything that the app needs from its host. The app and its routes know these ports, no platform.
import type { AuditLog } from './audit/port.ts';
import type { Clock, RandomBytes } from './clock.ts';
import type { Directory } from './directory/port.ts';
import type { AdminKeyStore } from './keys/adminKeys.ts';
import type { Keyring } from './keys/keyring.ts';
import type { Ledger } from './ledger/port.ts';
import type { Log } from './log.ts';
import type { Gauge, Metrics } from './metrics.ts';
import type { PoolDirectory } from './pools/directory.ts';
import type { PriceStore } from './prices/port.ts';
import type { PoolRegistry } from './relay/poolRegistry.ts';
import type { PromptCounts } from './relay/promptCount.ts';
import type { PublicPrefixes } from './relay/publicPrefixes.ts';
import type { Settling } from './relay/settling.ts';
import type { Span, Tracer } from './trace.ts';
import type { FocusParties } from './usage/focus.ts';
import type { UsageStore } from './usage/port.ts';

export interface GatewaySettings {
  /** Output tokens per choice when the request names none. */
  chatMaxTokens: number;
  completionMaxTokens: number;
  maxBodyBytes: number;
  /** Requests at pools at once. */
  maxConcurrentRequests: number;
  /** A request may take this long; the pool enforces it. */
  requestTimeoutMs: number;
  /** A hold outlives its deadline by this. */
  holdMarginMs: number;
  /** A stream that has nothing to say for so long says that it is still there. */
  keepAliveMs: number;
  /** So long an Idempotency-Key stands for its request. */
  idempotencyKeepMs: number;
  /** A request whose pool failed waits so long for one to go on at. */
  failoverWaitMs: number;
  billing: FocusParties;
}

export interface GatewayPorts {
  settings: GatewaySettings;
  keyring: Keyring;
  ledger: Ledger;
  directory: Directory;
  usage: UsageStore;
  prices: PriceStore;
  adminKeys: AdminKeyStore;
  audit: AuditLog;
  registry: PoolRegistry;
  pools: PoolDirectory;
  publicPrefixes: PublicPrefixes;
  counts: PromptCounts;
  settler: Settling;
  metrics: Metrics;
  clock: Clock;
  random: RandomBytes;
  log: Log;
  tracer: Tracer;
  /** What this host can count beyond what the app itself sees. */
  gauges: () => Promise<Gauge[]>;
  /** Brings the usage store up to what is settled now; of these projects only, where the host can't do it for all. */
  freshenUsage: (projects: readonly string[] | undefined) => Promise<void>;
  /** Brings what is known of pools up to now, where the host does not do so by itself. */
  freshenPools: () => Promise<void>;
  /** Aborts when the host can't wait for running requests any longer; null: this host never stops by itself. */
  hangUp: AbortSignal | null;
}

/** What the routes share of one HTTP exchange. */
export interface AppEnv {
  Variables: {
    requestId: string;
    span: Span;
    /**
     * The headers that every answer has. The app adds them to those whose route has not asked for them; a route that many ask makes its
     * answer with them, since a changed one costs several times as much.
     */
    commonHeaders: () => Record<string, string>;
    /** On administrative routes: whose key it was. */
    actor: string;
  };
}
