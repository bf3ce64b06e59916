// KV blocks outside the GPU: what the engine asks of whatever keeps them (host RAM, disk). The engine never waits on it inside a
// step, and nothing here can fail a request: what is damaged, foreign, gone or too slow is a miss.

/** What the block manager tells of its index, in the order of events. Also the source of kv-events for routers. */
export interface BlockListener {
  /** The block is complete and indexed: it hangs off `parent` (-1: the namespace's root). `tokens`: its own, valid during the call. */
  stored(block: number, parent: number, namespace: string, tokens: Int32Array): void;
  /** The block leaves the index; its contents are intact until this call returns and the next submitted step. */
  removed(block: number, why: 'evicted' | 'discarded'): void;
}

/** The prefix cache that a request may read and write. */
export interface CacheScope {
  /** Derived by the server from the tenant (and narrowed by the request's own salt). */
  namespace: string;
  /** 32 bytes that seal the namespace's records outside the process; null: its blocks stay in this process. */
  sealKey: Uint8Array | null;
}

/** What of a prompt the tiers hold beyond what the GPU holds. */
export interface TierHit {
  /** Consecutive whole blocks. */
  blocks: number;
  /** Estimate from measured rates: until the bytes are in the arena. */
  loadMs: number;
}

export interface LoadedBlocks {
  /** Bytes of the leading blocks that were good, at most those asked for. */
  blocks: Uint8Array[];
  /** How many of them came from each tier. */
  fromRam: number;
  fromDisk: number;
}

/** Moves whole blocks between the arena and the host. Ordered with steps: a read sees what was submitted before, a write is seen after. */
export interface BlockTransfer {
  /** Bytes of one block over all layers. */
  readonly blockBytes: number;
  /** Copies are queued at once, so the blocks may be overwritten by the next step; resolves with [blocks.length] × blockBytes. */
  readBlocks(blocks: readonly number[]): Promise<Uint8Array[]>;
  writeBlock(block: number, bytes: Uint8Array): void;
}

export interface KvTiers extends BlockListener {
  /** Blocks [from, …) of `tokens` that can be had within `maxTokens`; from memory, in microseconds. */
  probe(scope: CacheScope, tokens: Int32Array, from: number, maxTokens: number): TierHit;
  /** Reads and verifies from the root. Never rejects; fewer blocks than asked for is a miss of the rest. */
  load(scope: CacheScope, tokens: Int32Array, from: number, count: number, signal: AbortSignal): Promise<LoadedBlocks>;
}
