// Which KV blocks hold the cache of which tokens. A tree per namespace: a node is (its parent, the block's 16 tokens), so a node
// stands for an exact token prefix. Children are found by the tokens themselves: the Map's hash (seeded by the JavaScript engine)
// only accelerates, and equality is always of all tokens. The index knows no reference counts and no recency.
import { invariant } from './invariant.ts';
import { BLOCK_TOKENS } from './modelRunner.ts';

export class PrefixNode {
  /** The arena block that holds this node's KV; -1 for a namespace's root. */
  readonly block: number;
  /** null for a namespace's root. */
  readonly parent: PrefixNode | null;
  /** The block's 16 tokens, packed; a root's scope. */
  readonly key: string;
  readonly children = new Map<string, PrefixNode>();

  constructor(block: number, parent: PrefixNode | null, key: string) {
    this.block = block;
    this.parent = parent;
    this.key = key;
  }
}

/** Tokens [start, start + 16) as a string of 32 UTF-16 units, two per token: one to one. */
export function packBlock(tokens: Int32Array, start: number): string {
  const units = new Array<number>(2 * BLOCK_TOKENS);
  for (let i = 0; i < BLOCK_TOKENS; i++) {
    const token = tokens[start + i]!;
    units[2 * i] = token & 0xffff;
    units[2 * i + 1] = token >>> 16;
  }
  return String.fromCharCode(...units);
}

export class PrefixIndex {
  readonly #roots = new Map<string, PrefixNode>();
  #size = 0;

  /** Nodes, roots not counted. */
  get size(): number {
    return this.#size;
  }

  /** The nodes of the longest indexed prefix of `tokens` within `maxTokens`, outermost first. */
  match(scope: string, tokens: Int32Array, maxTokens: number): PrefixNode[] {
    const path: PrefixNode[] = [];
    let node = this.#roots.get(scope);
    for (let start = 0; node && start + BLOCK_TOKENS <= maxTokens; start += BLOCK_TOKENS) {
      node = node.children.get(packBlock(tokens, start));
      if (node) path.push(node);
    }
    return path;
  }

  child(scope: string, parent: PrefixNode | null, key: string): PrefixNode | undefined {
    return (parent ?? this.#roots.get(scope))?.children.get(key);
  }

  /** Adds a node under `parent` (null: under the scope's root). The caller has looked whether it exists. */
  insert(scope: string, parent: PrefixNode | null, key: string, block: number): PrefixNode {
    let above = parent ?? this.#roots.get(scope);
    if (!above) {
      above = new PrefixNode(-1, null, scope);
      this.#roots.set(scope, above);
    }
    invariant(!above.children.has(key), 'a prefix is indexed once', { block });
    const node = new PrefixNode(block, above, key);
    above.children.set(key, node);
    this.#size += 1;
    return node;
  }

  /** Removes a leaf; a namespace's root goes with its last node. */
  remove(node: PrefixNode): void {
    const { parent } = node;
    invariant(parent && node.children.size === 0, 'only leaves leave the index', { block: node.block });
    invariant(parent.children.get(node.key) === node, 'an indexed node hangs off its parent', { block: node.block });
    parent.children.delete(node.key);
    this.#size -= 1;
    if (parent.parent === null && parent.children.size === 0) this.#roots.delete(parent.key);
  }

  /** Namespaces with at least one node. */
  get scopes(): number {
    return this.#roots.size;
  }

  /** Every node, parents before children. For self-checks. */
  *nodes(): Generator<PrefixNode> {
    const open = [...this.#roots.values()];
    for (let node = open.pop(); node; node = open.pop()) {
      if (node.parent) yield node;
      open.push(...node.children.values());
    }
  }
}
