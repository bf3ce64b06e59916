// KV blocks outside the GPU: what the engine asks of whatever keeps them (host RAM, disk). The engine never waits on it inside a
// step, and nothing here can fail a request: what is damaged, foreign, gone or too slow is a miss.
//
//   block manager ── stored, removed ──▶ tiers ── readBlock ──▶ transfer (runner)      scheduler: probe ─▶ load ─▶ transfer.writeBlock

import type { CacheAccount } from '../eviction/policy.ts';

export type Removal = 'evicted' | 'flushed' | 'discarded';

/** What the block manager tells of its index, in the order of events. Also the source of kv-events for routers. */
export interface BlockListener {
  /**
   * The block is complete and indexed: it hangs off `parent`, which may be of another namespace (a public prefix), or, when that is
   * -1, off the root of `namespace` and `extra`. `tokens`: its own 16, valid during the call.
   */
  stored(block: number, parent: number, namespace: string, extra: string, tokens: Int32Array): void;
  /**
   * The block leaves the index; its contents are intact until this call returns and the next submitted step. flushed: all blocks leave,
   * and a `flush` before has kept what there is room for.
   */
  removed(block: number, why: Removal): void;
}

/** The prefix cache that a request may read and write. */
export interface CacheScope {
  /** Derived by the server from the tenant (and narrowed by the request's own salt). */
  namespace: string;
  /** 32 bytes that seal the namespace's records outside the process; null: its blocks stay in this process. */
  sealKey: Uint8Array | null;
}

/** Who has a share of the tiers, and how large it is beside others'. */
export type TierAccount = Pick<CacheAccount, 'name' | 'weight'>;

/** A token sequence and whose blocks hold its KV. */
export interface CachedPath {
  tokens: Int32Array;
  /** What else than tokens its KV depends on (adapter, modality). */
  extra: string;
  scope: CacheScope;
  /** Whose share of the tiers its own blocks count against: a tenant, whatever namespaces he has. */
  account: TierAccount;
  /** The leading `publicBlocks` are the operator's, in this scope; null when there are none. */
  publicScope: CacheScope | null;
  publicBlocks: number;
}

/** What of a prompt the tiers hold beyond what the GPU holds. */
export interface TierHit {
  /** Consecutive whole blocks. */
  blocks: number;
  /** Estimate from measured rates: until the bytes are in the arena. */
  loadMs: number;
}

export interface LoadedBlocks {
  /** Bytes of the leading blocks that were good, at most those asked for. Shared: read only. */
  blocks: Uint8Array[];
  /** How many of them came from each tier. */
  fromRam: number;
  fromDisk: number;
}

/** Moves whole blocks between the arena and the host. Ordered with steps: a read sees what was submitted before, a write is seen after. */
export interface BlockTransfer {
  /** Bytes of one block over all layers. */
  readonly blockBytes: number;
  /** Smoothed milliseconds that a `writeBlock` takes. */
  readonly writeMs: number;
  /**
   * The block as it is now: it may be overwritten by the next step. null, with nothing done, when too many reads are under way.
   * Resolves with null when the GPU is lost meanwhile; never rejects.
   */
  readBlock(block: number): Promise<Uint8Array | null> | null;
  /** Copies `bytes` at once; the next step finds them in the block. */
  writeBlock(block: number, bytes: Uint8Array): void;
}

/** Counts since the start; blocks and bytes as of now. */
export interface TierStatus {
  blocks: number;
  bytes: number;
  capacityBytes: number;
  /** Blocks that a load got from this tier. */
  hits: number;
  /** Blocks written to it, and blocks that left it for room. */
  stored: number;
  evicted: number;
}

/** What went wrong on disk, in blocks. None of it is more than a miss. */
export type DiskTrouble = 'gone' | 'damaged' | 'unreadable' | 'unwritable';

export interface DiskStatus extends TierStatus {
  troubles: Record<DiskTrouble, number>;
  /** Writes given up because others were queued. */
  dropped: number;
  queuedWrites: number;
  /** Smoothed, of single records, several of which may be under way; null before the first. */
  readBytesPerSecond: number | null;
  writeBytesPerSecond: number | null;
  /** `backing off`: writes failed in a row and are tried again later. */
  state: 'open' | 'backing off' | 'closed';
}

export interface TiersStatus {
  ram: TierStatus;
  /** null: no folder is configured. */
  disk: DiskStatus | null;
  /** Blocks that a load wanted and no tier gave. */
  misses: number;
  /** Blocks on the GPU that wait to be copied into the tiers, and copies that were not made because the GPU was busy with others. */
  waitingCopies: number;
  skippedCopies: number;
  namespaces: number;
}

export interface KvTiers extends BlockListener {
  /** Most blocks that one `load` answers; a longer hit takes several. */
  readonly maxLoadBlocks: number;
  /**
   * Blocks [from, …) of the path that can be had within `maxTokens`; from memory, in microseconds. A namespace is known here
   * from its first probe on: blocks of one that was never probed are not kept. The account's weight counts from then on, too.
   */
  probe(path: CachedPath, from: number, maxTokens: number): TierHit;
  /** Reads and verifies from the root. Never rejects; fewer blocks than asked for is a miss of the rest. Resolves soon after an abort. */
  load(path: CachedPath, from: number, count: number, signal: AbortSignal): Promise<LoadedBlocks>;
  /** Copies what only the GPU holds. Resolves when all is copied that can be; what the tiers have no room for is lost with the GPU's. */
  flush(): Promise<void>;
  /** Forgets the namespace's blocks and key. Its records on disk can't be read by anybody without the key. */
  destroyNamespace(namespace: string): void;
  status(): TiersStatus;
}
