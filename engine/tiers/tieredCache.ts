// KV blocks of one engine in host RAM and on disk, as one cache behind the GPU's.
//
//   GPU ── stored ──▶ waiting copies ─┐ (write-through, in the background)
//       ── evicted ──▶ at once ───────┴─▶ RAM ── written through, or evicted ──▶ disk
//   load:  RAM, else disk ─▶ checked: key, name, parent chain, own tokens ─▶ RAM ─▶ caller ─▶ GPU
//
// It holds no lock and waits for nothing inside a step: what can't be done at once is left out, and is computed again one day.
import { invariant } from '../invariant.ts';
import { BLOCK_TOKENS } from '../modelRunner.ts';
import { WakeUp } from '../wakeUp.ts';
import type { DiskTier } from './diskTier.ts';
import { LoadEstimate } from './loadEstimate.ts';
import { packTokens } from './namespaceKeys.ts';
import { Namespaces } from './namespaces.ts';
import type {
  BlockTransfer,
  CachedPath,
  CacheScope,
  KvTiers,
  LoadedBlocks,
  Removal,
  TierHit,
  TiersStatus,
} from './port.ts';
import type { RamTier } from './ramTier.ts';
import { openRecord, recordBytes, sealRecord } from './record.ts';
import { type Namespace, type RecordNode, RecordTree } from './recordTree.ts';

/** Bytes that one load holds outside the RAM tier. */
const MAX_LOAD_BYTES = 64 * 2 ** 20;
/** Records of one load that are read at once; the disk tier bounds all loads together. */
const READ_AHEAD = 4;
/** Blocks that wait for their copy: 64k tokens. Each costs a reference. */
const MAX_WAITING_COPIES = 4096;
/** Background copies under way: what a step has beside it, about 0.06 ms each on a software adapter. */
const MAX_COPIES = 4;
/** What a record's way from disk is taken to cost before the first: 200 MB/s. */
const ASSUMED_BYTES_PER_MS = 2e5;

export interface TieredCacheOptions {
  transfer: BlockTransfer;
  /** Of the model runner: whose KV this is. */
  fingerprint: string;
  ram: RamTier;
  disk: DiskTier | null;
  /** Blocks are copied when they are complete, not only when they leave the GPU: others, and a restart, find them soon. */
  writeThrough: boolean;
  /** Milliseconds. */
  now: () => number;
}

export class TieredCache implements KvTiers {
  readonly maxLoadBlocks: number;
  readonly #options: TieredCacheOptions;
  readonly #tree: RecordTree;
  readonly #namespaces: Namespaces;
  readonly #arena: (RecordNode | undefined)[] = [];
  readonly #waiting = new Set<RecordNode>();
  readonly #estimate: LoadEstimate;
  readonly #recordBytes: number;
  /** Rung when a copy from the GPU has ended. */
  readonly #copied = new WakeUp();
  #copies = 0;
  #skipped = 0;
  #ramHits = 0;
  #misses = 0;

  constructor(options: TieredCacheOptions) {
    this.#options = options;
    this.#tree = new RecordTree(options.fingerprint, (node, bytes) => this.#leftRam(node, bytes));
    this.#namespaces = new Namespaces(options.fingerprint);
    this.#recordBytes = recordBytes(options.transfer.blockBytes);
    this.#estimate = new LoadEstimate(this.#recordBytes / ASSUMED_BYTES_PER_MS, options.now());
    this.maxLoadBlocks = Math.max(1, Math.floor(MAX_LOAD_BYTES / options.transfer.blockBytes));
  }

  stored(block: number, parent: number, namespace: string, extra: string, tokens: Int32Array): void {
    const own = this.#namespaces.get(namespace);
    const above = own && (parent < 0 ? this.#tree.root(own, extra) : this.#arena[parent]);
    if (!own || !above) return;
    invariant(!this.#arena[block], 'an arena block holds one block', { block });
    const node = this.#tree.ensure(above, own, packTokens(tokens, 0));
    node.arena = block;
    this.#arena[block] = node;
    if (!this.#options.writeThrough || node.bytes || this.#diskHas(node)) return;
    if (this.#waiting.size < MAX_WAITING_COPIES) this.#waiting.add(node);
    else this.#skipped += 1;
    this.#copyNext();
  }

  removed(block: number, why: Removal): void {
    const node = this.#arena[block];
    if (!node) return;
    this.#arena[block] = undefined;
    this.#waiting.delete(node);
    if (why === 'discarded') this.#forget(node);
    else if (node.bytes) this.#options.ram.touch(node);
    else if (why === 'evicted' && !this.#copy(node, block)) this.#skipped += 1;
    // The GPU gives up tails first; written, when they were complete, were heads.
    if (why !== 'discarded' && this.#diskHas(node)) this.#options.disk?.used(node.id, node.owner);
    if (node.arena === block) node.arena = -1;
    this.#tree.prune(node);
  }

  probe(path: CachedPath, from: number, maxTokens: number): TierHit {
    const { account } = path;
    this.#options.ram.weigh(account.name, account.weight);
    this.#options.disk?.weigh(account.name, account.weight);
    const namespaceAt = this.#namespacesOf(path);
    const end = Math.floor(Math.min(maxTokens, path.tokens.length) / BLOCK_TOKENS);
    const disk = this.#options.disk?.usable && this.#options.disk.records > 0 ? this.#options.disk : null;
    let ram = 0;
    let onDisk = 0;
    let node: RecordNode | undefined = this.#tree.root(namespaceAt(0), path.extra);
    let id = '';
    for (let i = 0; i < end && from < end; i++) {
      const namespace = namespaceAt(i);
      const packed = packTokens(path.tokens, i * BLOCK_TOKENS);
      const parent: RecordNode | undefined = node;
      node = parent && this.#tree.find(parent, namespace, packed);
      if (!node && !disk) break; // what has no node is not in RAM, nor is what hangs off it
      if (!node) id = namespace.keys.blockId(parent ? parent.id : id, packed);
      if (i < from) continue;
      if (node?.bytes) ram += 1;
      else if (disk && namespace.sealed && disk.has(node ? node.id : id)) onDisk += 1;
      else break;
    }
    const { transfer, now } = this.#options;
    return { blocks: ram + onDisk, loadMs: this.#estimate.loadMs(ram, onDisk, transfer.writeMs, now()) };
  }

  async load(path: CachedPath, from: number, count: number, signal: AbortSignal): Promise<LoadedBlocks> {
    const loaded: LoadedBlocks = { blocks: [], fromRam: 0, fromDisk: 0 };
    const blocks = Math.min(from + Math.min(count, this.maxLoadBlocks), Math.floor(path.tokens.length / BLOCK_TOKENS));
    if (blocks <= from || signal.aborted) return loaded;
    const nodes = this.#tree.ensurePath(path, this.#namespacesOf(path), blocks);
    const last = nodes.at(-1)!;
    last.pins += 1;
    await untilAborted(this.#gather(nodes.slice(from), loaded, signal), signal);
    last.pins -= 1;
    this.#tree.prune(last);
    if (!signal.aborted) this.#misses += blocks - from - loaded.blocks.length;
    // Heads are touched last, so they leave last.
    for (const node of nodes.reverse()) {
      if (node.bytes) this.#options.ram.touch(node);
      if (this.#diskHas(node)) this.#options.disk?.used(node.id, node.owner);
    }
    return { ...loaded, blocks: [...loaded.blocks] };
  }

  async flush(): Promise<void> {
    const only = this.#arena.flatMap((node) => (node && !node.bytes && !this.#diskHas(node) ? node : []));
    // Tails first: what comes into RAM last leaves it last.
    for (const node of only.sort((a, b) => depthOf(b) - depthOf(a)))
      while (node.arena >= 0 && !this.#copy(node, node.arena)) {
        if (this.#copies === 0) return; // the GPU is lost
        await this.#copied.wait();
      }
    while (this.#copies > 0) await this.#copied.wait();
  }

  destroyNamespace(name: string): void {
    const namespace = this.#namespaces.get(name);
    if (!namespace) return;
    namespace.gone = true;
    this.#namespaces.delete(name);
    for (const node of namespace.nodes) {
      this.#waiting.delete(node);
      if (node.arena >= 0) this.#arena[node.arena] = undefined;
      node.arena = -1;
      this.#options.ram.drop(node);
    }
    for (const node of [...namespace.nodes]) this.#tree.prune(node);
  }

  status(): TiersStatus {
    const { ram, disk } = this.#options;
    return {
      ram: {
        blocks: ram.blocks,
        bytes: ram.bytes,
        capacityBytes: ram.capacityBytes,
        hits: this.#ramHits,
        stored: ram.stored,
        evicted: ram.evicted,
      },
      disk: disk?.status() ?? null,
      misses: this.#misses,
      waitingCopies: this.#waiting.size + this.#copies,
      skippedCopies: this.#skipped,
      namespaces: this.#namespaces.size,
    };
  }

  #namespacesOf({ scope, account, publicScope, publicBlocks }: CachedPath): (block: number) => Namespace {
    const nowMs = this.#options.now();
    const of = (one: CacheScope, whose: string) =>
      this.#namespaces.of(one, whose, nowMs, ({ name }) => this.destroyNamespace(name));
    const own = of(scope, account.name);
    const shared = publicScope && publicBlocks > 0 ? of(publicScope, publicScope.namespace) : own;
    return (block) => (block < publicBlocks ? shared : own);
  }

  /** Appends the bytes of `nodes` to `loaded`, in order, up to the first that can't be had. */
  async #gather(nodes: readonly RecordNode[], loaded: LoadedBlocks, signal: AbortSignal): Promise<void> {
    const beganMs = performance.now();
    const ahead: Promise<Fetched | null>[] = [];
    let next = 0;
    let readBlocks = 0;
    for (let done = 0; done < nodes.length && !signal.aborted; done++) {
      for (; next < nodes.length && ahead.length < READ_AHEAD; next++) ahead.push(this.#fetch(nodes[next]!));
      const fetched = await ahead.shift();
      // What came too late for its load tells all the more how long it takes.
      if (fetched?.from === 'disk') readBlocks += 1;
      if (!fetched || signal.aborted) break;
      loaded.blocks.push(fetched.bytes);
      if (fetched.from === 'ram') loaded.fromRam += 1;
      else loaded.fromDisk += 1;
    }
    this.#ramHits += loaded.fromRam;
    if (readBlocks + loaded.fromRam === 0) return;
    const diskMs = readBlocks > 0 ? (performance.now() - beganMs) / readBlocks : null;
    this.#estimate.note(diskMs, this.#options.now());
  }

  async #fetch(node: RecordNode): Promise<Fetched | null> {
    if (node.bytes) return { bytes: node.bytes, from: 'ram' };
    const { disk } = this.#options;
    const { discards } = node;
    if (!disk || !this.#diskHas(node)) return null;
    // The load may be given up meanwhile: bytes on a node that has left the tree would be found by nobody.
    node.pins += 1;
    const record = await disk.read(node.id, this.#recordBytes, node.owner);
    node.pins -= 1;
    const bytes = this.#opened(node, record, discards);
    if (bytes && !node.bytes) this.#options.ram.put(node, bytes);
    this.#tree.prune(node);
    return bytes && { bytes, from: 'disk' };
  }

  #opened(node: RecordNode, record: Buffer | null, discards: number): Uint8Array | null {
    const { namespace } = node;
    if (!record || namespace.gone || node.discards !== discards) return null;
    const bytes = openRecord(namespace.keys, node.name, record, this.#options.transfer.blockBytes);
    if (!bytes) this.#options.disk?.damaged(node.id);
    return bytes;
  }

  #diskHas(node: RecordNode): boolean {
    const { disk } = this.#options;
    return disk !== null && node.namespace.sealed && disk.usable && disk.has(node.id);
  }

  /** Begins to copy a block from the GPU, which has to hold it during this call only; false when the GPU is busy with others. */
  #copy(node: RecordNode, block: number): boolean {
    if (node.copying) return true;
    const reading = this.#options.transfer.readBlock(block);
    if (!reading) return false;
    void this.#keepWhenRead(node, reading);
    return true;
  }

  async #keepWhenRead(node: RecordNode, reading: Promise<Uint8Array | null>): Promise<void> {
    const { discards } = node;
    node.pins += 1;
    node.copying = true;
    this.#copies += 1;
    const bytes = await reading;
    node.pins -= 1;
    node.copying = false;
    this.#copies -= 1;
    if (bytes && !node.bytes && !node.namespace.gone && node.discards === discards) {
      const inRam = this.#options.ram.put(node, bytes);
      if (!inRam || this.#options.writeThrough) this.#writeToDisk(node, bytes);
    }
    this.#tree.prune(node);
    this.#copyNext();
    this.#copied.ring();
  }

  /** Copies what was stored, a few blocks at a time. */
  #copyNext(): void {
    for (const node of this.#waiting) {
      if (this.#copies >= MAX_COPIES) return;
      if (!node.bytes && !this.#copy(node, node.arena)) return;
      this.#waiting.delete(node);
    }
  }

  #leftRam(node: RecordNode, bytes: Uint8Array): void {
    this.#writeToDisk(node, bytes);
    this.#tree.prune(node);
  }

  #writeToDisk(node: RecordNode, bytes: Uint8Array): void {
    const { namespace, discards } = node;
    if (!namespace.sealed || namespace.gone) return;
    this.#options.disk?.write(node.id, this.#recordBytes, node.owner, () =>
      namespace.gone || node.discards !== discards ? null : sealRecord(namespace.keys, node.name, bytes),
    );
  }

  /** What the block holds, and what was computed from it, is not to be trusted. */
  #forget(root: RecordNode): void {
    const order = [root];
    for (let i = 0; i < order.length; i++) order.push(...(order[i]!.children?.values() ?? []));
    for (const node of order.reverse()) {
      node.discards += 1;
      this.#waiting.delete(node);
      this.#options.ram.drop(node);
      if (this.#diskHas(node)) this.#options.disk?.remove(node.id);
      if (node !== root) this.#tree.prune(node);
    }
  }
}

function depthOf({ parent }: RecordNode): number {
  let depth = 0;
  for (let node = parent; node; node = node.parent) depth += 1;
  return depth;
}

interface Fetched {
  bytes: Uint8Array;
  from: 'ram' | 'disk';
}

/** Resolves with `work`, or when the signal aborts: a disk that hangs must not hold whoever gave up waiting. */
async function untilAborted(work: Promise<void>, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const abort = () => resolve();
  signal.addEventListener('abort', abort, { once: true });
  await Promise.race([work, promise]);
  signal.removeEventListener('abort', abort);
}
