// As much of Cloudflare's platform as this host uses, as types. What is not named here is not relied upon.
import type { Ledger } from '../ledger/port.ts';

export interface SqlCursor {
  toArray(): Record<string, null | number | string | ArrayBuffer>[];
}

/** A Durable Object's own database. */
export interface ObjectStorage {
  sql: { exec(text: string, ...values: (null | number | string | ArrayBuffer)[]): SqlCursor };
  transactionSync<T>(work: () => T): T;
  /** Unix milliseconds; null: none is set. */
  getAlarm(): Promise<number | null>;
  /** In place of the one that was set. Part of the write it stands beside. */
  setAlarm(atMs: number): Promise<void>;
  deleteAlarm(): Promise<void>;
}

export interface ObjectState {
  storage: ObjectStorage;
  blockConcurrencyWhile<T>(work: () => Promise<T>): Promise<T>;
  /** Ends the object at once; the next call makes it anew from what is stored. */
  abort(reason?: string): void;
}

export interface ObjectNamespace<Rpc> {
  idFromName(name: string): object;
  get(id: object): Rpc;
}

export interface D1Statement {
  bind(...values: (null | number | string | ArrayBuffer)[]): D1Statement;
  all(): Promise<D1Result>;
}

export interface D1Result {
  results: Record<string, null | number | string | number[]>[];
}

export interface D1Database {
  prepare(text: string): D1Statement;
  /** One transaction. */
  batch(statements: readonly D1Statement[]): Promise<D1Result[]>;
}

/** What is thrown where an object could not be reached, or reset while it worked. */
export interface ObjectError extends Error {
  retryable?: boolean;
  overloaded?: boolean;
}

export type CommandName = keyof Ledger;
export type CommandResult<N extends CommandName> = Awaited<ReturnType<Ledger[N]>>;

/** What an object can't do is told as a value: an exception loses its type on the way between Workers. */
export type Answer<T> = { ok: true; value: T } | { ok: false; message: string };

/** A tenant's Durable Object, as the Worker calls it. */
export interface TenantRpc {
  run<N extends CommandName>(name: N, args: Parameters<Ledger[N]>): Promise<Answer<CommandResult<N>>>;
  /** The request's relay gave it up: the object settles it as soon as its pool tells. */
  leave(requestId: string): Promise<void>;
  /** Brings the usage store up to what is settled. */
  feed(): Promise<void>;
}

/** A Worker over Workers VPC, or any other binding that fetches. */
export interface FetchBinding {
  fetch: typeof fetch;
}

export interface EdgeEnv {
  TENANTS: ObjectNamespace<TenantRpc>;
  DB: D1Database;
  HEARTH_ADMIN_KEY: string;
  HEARTH_PEPPERS: string;
  HEARTH_NAMESPACE_SECRET: string;
  HEARTH_POOLS: string;
  HEARTH_SETTINGS?: string;
  /** Pools name their bindings. */
  [binding: string]: unknown;
}

export interface WorkerContext {
  /** The invocation is kept for this a while after its answer; never relied upon. */
  waitUntil(work: Promise<unknown>): void;
}
