// Which KV blocks hold the cache of which tokens: a path-compressed tree over whole blocks. A block stands for an exact token prefix
// under its namespaces: tokens are compared, never digests. The index knows no reference counts and no recency. How a prompt is
// looked up in it: prefixMatch.ts.
import { invariant } from './invariant.ts';
import { BLOCK_TOKENS } from './modelRunner.ts';
import { Namespace, PrefixRun } from './prefixRun.ts';
import { commonTokens } from './tokenBlocks.ts';

export class PrefixIndex {
  /** By extra, then by name. */
  readonly #namespaces = new Map<string, Map<string, Namespace>>();
  #namespaceCount = 0;
  #namespaceIds = 0;
  /** [capacityBlocks]; null: not indexed. */
  readonly #run: (PrefixRun | null)[];
  /** Blocks before it, [capacityBlocks]. */
  readonly #depth: Int32Array;
  #size = 0;

  constructor(capacityBlocks: number) {
    this.#run = new Array<PrefixRun | null>(capacityBlocks).fill(null);
    this.#depth = new Int32Array(capacityBlocks);
  }

  /** Indexed blocks. */
  get size(): number {
    return this.#size;
  }

  /** Namespaces that have a block or a user. */
  get namespaces(): number {
    return this.#namespaceCount;
  }

  find(name: string, extra: string): Namespace | undefined {
    return this.#namespaces.get(extra)?.get(name);
  }

  /** The namespace, kept until `close`. */
  open(name: string, extra: string): Namespace {
    let namespace = this.find(name, extra);
    if (!namespace) {
      namespace = new Namespace(++this.#namespaceIds, name, extra);
      const siblings = this.#namespaces.get(extra);
      if (siblings) siblings.set(name, namespace);
      else this.#namespaces.set(extra, new Map([[name, namespace]]));
      this.#namespaceCount += 1;
    }
    namespace.users += 1;
    return namespace;
  }

  close(namespace: Namespace): void {
    namespace.users -= 1;
    if (namespace.users > 0) return;
    const siblings = this.#namespaces.get(namespace.extra)!;
    siblings.delete(namespace.name);
    if (siblings.size === 0) this.#namespaces.delete(namespace.extra);
    this.#namespaceCount -= 1;
  }

  /**
   * The block that stands for tokens[start, start + 16) after `parent` (-1: first in the namespace): the one that is indexed
   * already, or else `block`, which is from now on.
   */
  insert(parent: number, namespace: Namespace, tokens: Int32Array, start: number, block: number): number {
    invariant(!this.#run[block], 'a block is indexed once', { block });
    let above = parent < 0 ? namespace.root : this.#run[parent]!;
    const end = parent < 0 ? 0 : this.#depth[parent]! - above.depth + 1;
    if (end < above.length) {
      const same =
        above.namespace === namespace &&
        commonTokens(above.tokens, end * BLOCK_TOKENS, tokens, start, BLOCK_TOKENS) === BLOCK_TOKENS;
      if (same) return above.blocks[end]!;
      above = this.#split(above, end);
    }
    const place = above.place(namespace, tokens, start, BLOCK_TOKENS);
    const twin = above.children[place];
    if (twin && twin.compareTo(namespace, tokens, start, BLOCK_TOKENS) === 0) return twin.blocks[0]!;
    if (above.children.length === 0 && above.length > 0 && above.namespace === namespace) {
      above.append(block, tokens, start, BLOCK_TOKENS);
      this.#enter(block, above);
    } else this.#branch(above, place, namespace, tokens, start, BLOCK_TOKENS, block);
    return block;
  }

  /** Indexes a block of `count` < 16 tokens; false, with nothing done, when another block begins with them. */
  insertPartial(
    parent: number,
    namespace: Namespace,
    tokens: Int32Array,
    start: number,
    count: number,
    block: number,
  ): boolean {
    invariant(!this.#run[block] && count > 0 && count < BLOCK_TOKENS, 'a partial block is indexed once', {
      block,
      count,
    });
    let above = parent < 0 ? namespace.root : this.#run[parent]!;
    const end = parent < 0 ? 0 : this.#depth[parent]! - above.depth + 1;
    if (end < above.length) {
      const covered =
        above.namespace === namespace && commonTokens(above.tokens, end * BLOCK_TOKENS, tokens, start, count) === count;
      if (covered) return false;
      above = this.#split(above, end);
    }
    const place = above.place(namespace, tokens, start, count);
    // Whatever begins with these tokens follows their place at once.
    const next = above.children[place];
    if (next?.namespace === namespace && next.agreement(tokens, start, count) === count) return false;
    this.#branch(above, place, namespace, tokens, start, count, block).partialTokens = count;
    return true;
  }

  /** A partial block after `parent` whose tokens are the beginning of tokens[start, start + count); -1 when there is none. */
  partialWithin(parent: number, namespace: Namespace, tokens: Int32Array, start: number, count: number): number {
    const above = parent < 0 ? namespace.root : this.#run[parent]!;
    if (parent >= 0 && above.lastBlock !== parent) return -1;
    const before = above.children[above.place(namespace, tokens, start, count) - 1];
    if (!before?.partialTokens || before.namespace !== namespace) return -1;
    const agreed = before.agreement(tokens, start, count);
    return agreed === before.partialTokens ? before.blocks[0]! : -1;
  }

  /** Removes a leaf. */
  remove(block: number): void {
    const run = this.#run[block];
    invariant(run && this.isLeaf(block), 'only leaves leave the index', { block });
    if (run.length === 1) {
      const above = run.parent!;
      const place = above.place(run.namespace, run.tokens, 0, run.keyTokens);
      invariant(above.children[place] === run, 'a run hangs where its tokens say', { block });
      above.removeChild(place);
      this.close(run.namespace);
    }
    run.shorten();
    this.#run[block] = null;
    this.#size -= 1;
  }

  has(block: number): boolean {
    return this.#run[block] !== null;
  }

  isPartial(block: number): boolean {
    return this.#run[block]!.partialTokens > 0;
  }

  /** Nothing hangs off it. */
  isLeaf(block: number): boolean {
    const run = this.#run[block]!;
    return run.children.length === 0 && run.lastBlock === block;
  }

  /** The block before it; -1: it is the first of its namespace. */
  parent(block: number): number {
    const run = this.#run[block]!;
    const place = this.#depth[block]! - run.depth;
    if (place > 0) return run.blocks[place - 1]!;
    return run.parent!.length > 0 ? run.parent!.lastBlock : -1;
  }

  /** Whatever hangs off the block, parents before children. */
  descendants(block: number): number[] {
    const run = this.#run[block]!;
    const below: number[] = [];
    for (let i = this.#depth[block]! - run.depth + 1; i < run.length; i++) below.push(run.blocks[i]!);
    for (const child of runsBelow(run)) for (let i = 0; i < child.length; i++) below.push(child.blocks[i]!);
    return below;
  }

  /** Every run that holds blocks, parents before children. For self-checks. */
  *runs(): Generator<PrefixRun> {
    for (const siblings of this.#namespaces.values()) for (const { root } of siblings.values()) yield* runsBelow(root);
  }

  /** Throws InvariantViolation where the tree contradicts itself. O(blocks). */
  check(): void {
    const users = new Map<Namespace, number>();
    let blocks = 0;
    for (const run of this.runs()) {
      blocks += run.length;
      users.set(run.namespace, (users.get(run.namespace) ?? 0) + 1);
      const above = run.parent!;
      invariant(
        above.children.includes(run) && run.depth === above.depth + above.length,
        'a run goes on where its parent ends',
      );
      invariant(run.length > 0 && run.length <= run.blocks.length, 'a run holds blocks', { length: run.length });
      invariant(
        run.partialTokens === 0 || (run.length === 1 && run.children.length === 0 && run.partialTokens < BLOCK_TOKENS),
        'a partial block is one and the last',
      );
      run.children.forEach((child, i) => {
        const before = run.children[i - 1];
        invariant(
          !before || before.compareTo(child.namespace, child.tokens, 0, child.keyTokens) < 0,
          'children are in order, and no two alike',
        );
      });
      for (let i = 0; i < run.length; i++) {
        const block = run.blocks[i]!;
        invariant(this.#run[block] === run && this.#depth[block] === run.depth + i, 'a block knows its place', {
          block,
        });
      }
    }
    invariant(blocks === this.#size && blocks === this.#run.filter(Boolean).length, 'blocks are counted', { blocks });
    for (const [namespace, runs] of users)
      invariant(
        this.find(namespace.name, namespace.extra) === namespace && runs <= namespace.users,
        'a namespace lives as long as its runs',
      );
  }

  #enter(block: number, run: PrefixRun): void {
    this.#run[block] = run;
    this.#depth[block] = run.depth + run.length - 1;
    this.#size += 1;
  }

  #branch(
    above: PrefixRun,
    place: number,
    namespace: Namespace,
    tokens: Int32Array,
    start: number,
    count: number,
    block: number,
  ): PrefixRun {
    const run = new PrefixRun(namespace, above, above.depth + above.length);
    run.append(block, tokens, start, count);
    above.addChild(place, run);
    namespace.users += 1;
    this.#enter(block, run);
    return run;
  }

  /** Cuts a run before its block `at`; the part before it. Costs what the prompt that branches off there has walked, and a copy. */
  #split(run: PrefixRun, at: number): PrefixRun {
    const above = run.parent!;
    const place = above.place(run.namespace, run.tokens, 0, run.keyTokens);
    const head = run.splitOff(at);
    above.replaceChild(place, head);
    run.namespace.users += 1;
    for (let i = 0; i < at; i++) this.#run[head.blocks[i]!] = head;
    return head;
  }
}

/** Runs that hang off `run`, parents before children. */
function* runsBelow(run: PrefixRun): Generator<PrefixRun> {
  const open = [...run.children];
  for (let next = open.pop(); next; next = open.pop()) {
    yield next;
    for (const child of next.children) open.push(child);
  }
}
