// What the block manager ought to do, told naively: plain maps of nodes, searched child by child, fed by the events that the manager
// sends. Beside it the contents of the arena, as far as tokens and namespaces determine them, so that a wrong block shows
// as wrong history, and a stranger's as a stranger's.
import type { BlockTable } from '../../engine/blockManager.ts';
import type { BlockFacts, EvictionPolicy } from '../../engine/eviction/policy.ts';
import { invariant } from '../../engine/invariant.ts';
import { BLOCK_TOKENS } from '../../engine/modelRunner.ts';
import type { BlockListener } from '../../engine/tiers/port.ts';
import type { NaiveTier } from './naiveTier.ts';

interface ModelNode {
  /** -1: a root. */
  block: number;
  parent: ModelNode | null;
  namespace: string;
  tokens: readonly number[];
  children: Set<ModelNode>;
  partials: Map<number, Partial>;
}

/** A partly filled block that can be copied from. */
interface Partial {
  node: ModelNode;
  namespace: string;
  tokens: readonly number[];
}

/** One sequence as the model sees it. */
export interface ModelSequence {
  tenant: string;
  extra: string;
  tokens: Int32Array;
  /** Known tokens, and of those the ones with KV. */
  length: number;
  computed: number;
  promptLength: number;
  publicBlocks: number;
  table: BlockTable;
}

export interface ExpectedHit {
  publicBlocks: number;
  /** Whole blocks, in order. */
  path: number[];
  copyTokens: number;
  /** Any of these may be copied from. */
  sources: number[];
}

const PUBLIC = 'public';

const covers = (longer: readonly number[], shorter: readonly number[]) =>
  shorter.every((token, i) => token === longer[i]);

export class BlockModel implements BlockListener {
  readonly declared = new Map<string, readonly number[]>();
  readonly #roots = new Map<string, ModelNode>();
  readonly #nodes = new Map<number, ModelNode>();
  readonly #partials = new Map<number, Partial>();
  /** Per slot, [capacity, 16]: a hash of the whole history, and whose it is. */
  readonly #history: Int32Array;
  readonly #writer: string[];
  readonly #inUse: (block: number) => boolean;
  readonly #tier: NaiveTier;
  /** Of the sequence that is about to be released: what its last block would be kept as. */
  #ending: Partial | null = null;
  copied: { from: number; to: number; tokens: number }[] = [];

  /** `inUse`: by a table that has not ended. Whatever is stored is offloaded to `tier`. */
  constructor(capacityBlocks: number, tier: NaiveTier, inUse: (block: number) => boolean) {
    this.#inUse = inUse;
    this.#tier = tier;
    this.#history = new Int32Array(capacityBlocks * BLOCK_TOKENS);
    this.#writer = new Array<string>(capacityBlocks * BLOCK_TOKENS).fill('');
  }

  /** The policy, with the model listening: it alone hears of partial blocks. */
  watch(policy: EvictionPolicy): EvictionPolicy {
    const { admit, remove } = policy;
    policy.admit = (block: number, facts: BlockFacts) => {
      invariant(facts.partial === (this.#ending !== null), 'a partial block is told as such', { block });
      if (facts.partial) this.#keep(block, this.#ending!);
      admit.call(policy, block, facts);
    };
    policy.remove = (block: number) => {
      const partial = this.#partials.get(block);
      invariant(!partial || !this.#inUse(block), 'what is in use is not evicted', { block });
      if (partial) this.#drop(block);
      remove.call(policy, block);
    };
    return policy;
  }

  stored(block: number, parent: number, namespace: string, extra: string, tokens: Int32Array): void {
    invariant(!this.#nodes.has(block) && tokens.length === BLOCK_TOKENS, 'a block is stored once, and full', { block });
    const above = parent < 0 ? this.#root(namespace, extra) : this.#nodes.get(parent);
    invariant(above, 'a stored block hangs off a stored one', { block, parent });
    const node = {
      block,
      parent: above,
      namespace,
      tokens: [...tokens],
      children: new Set<ModelNode>(),
      partials: new Map(),
    };
    for (const twin of above.children)
      invariant(twin.namespace !== namespace || !covers(twin.tokens, node.tokens), 'a prefix is stored once', {
        block,
      });
    for (const [idle, partial] of above.partials)
      invariant(
        this.#inUse(idle) || partial.namespace !== namespace || !covers(node.tokens, partial.tokens),
        'a partial block leaves when a full one holds all of it',
        { block, idle },
      );
    above.children.add(node);
    this.#nodes.set(block, node);
    this.#tier.put(namespace, extra, pathOf(node), {
      history: this.#history.slice(block * BLOCK_TOKENS, (block + 1) * BLOCK_TOKENS),
      writer: this.#writer.slice(block * BLOCK_TOKENS, (block + 1) * BLOCK_TOKENS),
    });
  }

  removed(block: number, why: 'evicted' | 'discarded'): void {
    invariant(why === 'discarded' || !this.#inUse(block), 'what is in use is not evicted', { block });
    const node = this.#nodes.get(block);
    invariant(node?.parent && node.children.size + node.partials.size === 0, 'tails leave before heads', { block });
    node.parent.children.delete(node);
    this.#nodes.delete(block);
  }

  copyBlock = (from: number, to: number, tokens: number): void => {
    invariant(from !== to, 'what is copied is still there', { from });
    this.copied.push({ from, to, tokens });
    for (let i = 0; i < tokens; i++) {
      this.#history[to * BLOCK_TOKENS + i] = this.#history[from * BLOCK_TOKENS + i]!;
      this.#writer[to * BLOCK_TOKENS + i] = this.#writer[from * BLOCK_TOKENS + i]!;
    }
  };

  /** Whether the block can be found as a full one. */
  holds(block: number): boolean {
    return this.#nodes.has(block);
  }

  /** What the cache holds of the first `maxTokens` tokens, of which `known` are known. */
  expect(tenant: string, extra: string, tokens: Int32Array, known: number, maxTokens: number): ExpectedHit {
    const longest = Math.max(
      0,
      ...[...this.declared.values()].map((ids) => (this.#begins(tokens, known, ids) ? ids.length : 0)),
    );
    const publicBlocks = Math.floor(longest / BLOCK_TOKENS);
    const path: number[] = [];
    let node: ModelNode | undefined = this.#roots.get(`${publicBlocks > 0 ? PUBLIC : tenant}|${extra}`);
    for (;;) {
      const namespace = path.length < publicBlocks ? PUBLIC : tenant;
      const next = tokens.subarray(path.length * BLOCK_TOKENS, Math.min(maxTokens, (path.length + 1) * BLOCK_TOKENS));
      const full: ModelNode | undefined =
        next.length === BLOCK_TOKENS
          ? [...(node?.children ?? [])].find(
              (child) => child.namespace === namespace && covers(child.tokens, [...next]),
            )
          : undefined;
      if (full) {
        path.push(full.block);
        node = full;
        continue;
      }
      const candidates = [...(node?.children ?? [])].map(({ block, namespace, tokens }) => ({
        block,
        namespace,
        tokens,
      }));
      for (const [block, { namespace, tokens }] of node?.partials ?? []) candidates.push({ block, namespace, tokens });
      let copyTokens = 0;
      let sources: number[] = [];
      for (const { block, namespace: whose, tokens: has } of candidates) {
        if (whose !== namespace) continue;
        let agreed = 0;
        while (agreed < Math.min(has.length, next.length) && has[agreed] === next[agreed]) agreed += 1;
        if (agreed > copyTokens) [copyTokens, sources] = [agreed, []];
        if (agreed > 0 && agreed === copyTokens) sources.push(block);
      }
      return { publicBlocks, path, copyTokens, sources };
    }
  }

  /** The sequence computes its next `count` positions. */
  compute(sequence: ModelSequence, count: number): void {
    for (let i = 0; i < count; i++) {
      const slot = this.#slot(sequence, sequence.computed);
      this.#history[slot] = this.#expectedHistory(sequence, sequence.computed);
      this.#writer[slot] = this.#whose(sequence, sequence.computed);
      sequence.computed += 1;
    }
  }

  /** Brings the sequence's next whole block back from the tier; false where it has none of it. */
  restore(sequence: ModelSequence): boolean {
    const { computed, tokens, extra } = sequence;
    const path = [...tokens.subarray(0, computed + BLOCK_TOKENS)];
    const record = this.#tier.get(this.#whose(sequence, computed), extra, path);
    if (!record) return false;
    const slot = this.#slot(sequence, computed);
    this.#history.set(record.history, slot);
    for (const [i, writer] of record.writer.entries()) this.#writer[slot + i] = writer;
    sequence.computed += BLOCK_TOKENS;
    return true;
  }

  /** Throws where the sequence's blocks don't hold its own history, or hold what it must not see. */
  verify(sequence: ModelSequence): void {
    let history = this.#seed(sequence);
    for (let position = 0; position < sequence.computed; position++) {
      history = mix(history, sequence.tokens[position]!);
      const slot = this.#slot(sequence, position);
      invariant(this.#history[slot] === history, 'a block holds its sequence’s history', { position });
      invariant(this.#writer[slot] === this.#whose(sequence, position), 'a block is of the sequence’s namespace', {
        position,
        writer: this.#writer[slot],
      });
    }
  }

  /** The prompt is computed: its partly filled block can be copied from now on, where no other begins with it. */
  promptEnded(sequence: ModelSequence): void {
    const partial = this.#partialOf(sequence);
    if (partial && !this.#covered(partial)) this.#keep(this.#lastBlock(sequence), partial);
  }

  /** Before a publish or release: what was indexed of the sequence's partly filled block is so no more. */
  forgetPartial(block: number): void {
    if (this.#partials.has(block)) this.#drop(block);
  }

  /** Around a release: its partly filled block is expected to be kept, or not. Throws when the manager does otherwise. */
  releasing(sequence: ModelSequence, release: () => void): void {
    const partial = this.#partialOf(sequence);
    if (!partial) {
      release();
      return;
    }
    const block = this.#lastBlock(sequence);
    this.forgetPartial(block);
    const covered = this.#covered(partial);
    this.#ending = covered ? null : partial;
    release();
    this.#ending = null;
    invariant(this.#partials.has(block) !== covered, 'a partial block is kept unless another begins with it', {
      block,
    });
  }

  #partialOf({ table, computed, tokens, tenant }: ModelSequence): Partial | null {
    const count = computed - table.published * BLOCK_TOKENS;
    if (count === 0) return null;
    const start = table.published * BLOCK_TOKENS;
    const namespace = table.published < table.publicBlocks ? PUBLIC : tenant;
    const node =
      table.published === 0
        ? this.#root(namespace, table.namespace!.extra)
        : this.#nodes.get(table.blocks[table.published - 1]!)!;
    return { node, namespace, tokens: [...tokens.subarray(start, start + count)] };
  }

  #lastBlock({ table }: ModelSequence): number {
    return table.blocks[table.published]!;
  }

  #covered({ node, namespace, tokens }: Partial): boolean {
    return [...node.children, ...node.partials.values()].some(
      (other) => other.namespace === namespace && covers(other.tokens, tokens),
    );
  }

  #keep(block: number, partial: Partial): void {
    this.#partials.set(block, partial);
    partial.node.partials.set(block, partial);
  }

  #drop(block: number): void {
    this.#partials.get(block)!.node.partials.delete(block);
    this.#partials.delete(block);
  }

  #root(namespace: string, extra: string): ModelNode {
    const key = `${namespace}|${extra}`;
    let root = this.#roots.get(key);
    if (!root) {
      root = { block: -1, parent: null, namespace, tokens: [], children: new Set(), partials: new Map() };
      this.#roots.set(key, root);
    }
    return root;
  }

  #begins(tokens: Int32Array, known: number, ids: readonly number[]): boolean {
    return ids.length <= known && ids.every((id, i) => id === tokens[i]);
  }

  #whose(sequence: ModelSequence, position: number): string {
    return Math.floor(position / BLOCK_TOKENS) < sequence.publicBlocks ? PUBLIC : sequence.tenant;
  }

  #slot({ table }: ModelSequence, position: number): number {
    return table.blocks[Math.floor(position / BLOCK_TOKENS)]! * BLOCK_TOKENS + (position % BLOCK_TOKENS);
  }

  #seed({ extra }: ModelSequence): number {
    return mix(0x2545f491, extra.length);
  }

  #expectedHistory(sequence: ModelSequence, position: number): number {
    if (position === 0) return mix(this.#seed(sequence), sequence.tokens[0]!);
    return mix(this.#history[this.#slot(sequence, position - 1)]!, sequence.tokens[position]!);
  }
}

/** Tokens from the root to the node's end. */
function pathOf(node: ModelNode): number[] {
  return node.parent ? [...pathOf(node.parent), ...node.tokens] : [];
}

function mix(hash: number, value: number): number {
  let h = Math.imul(hash ^ (value + 1), 0x9e3779b1);
  h ^= h >>> 15;
  h = Math.imul(h, 0x85ebca77);
  return h ^ (h >>> 13);
}
