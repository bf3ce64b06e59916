// The blocks that this process knows of, on the GPU or in RAM, as a tree of exact tokens: a node is (its parent, its namespace, its 16
// tokens). A node lives while something needs it: a block on the GPU, bytes in RAM, work under way, or a child. Ids are made when they are
// first asked for and kept, so that naming the deepest block of a long prompt costs one HMAC.
import { invariant } from '../invariant.ts';
import { BLOCK_TOKENS } from '../modelRunner.ts';
import { type NamespaceKeys, packTokens } from './namespaceKeys.ts';
import type { CachedPath } from './port.ts';
import type { RamEntry } from './ramTier.ts';
import { identityOf, type RecordName } from './record.ts';

/** A namespace as long as it has blocks here, or had a request lately. */
export class Namespace {
  readonly name: string;
  readonly keys: NamespaceKeys;
  /** Its records may leave the process. */
  readonly sealed: boolean;
  readonly nodes = new Set<RecordNode>();
  readonly roots = new Map<string, RecordNode>();
  /** Destroyed: what is still under way for it is thrown away. */
  gone = false;
  probedMs = 0;
  /** Whose share its blocks count against. */
  account: string;

  constructor(name: string, account: string, keys: NamespaceKeys, sealed: boolean) {
    this.name = name;
    this.account = account;
    this.keys = keys;
    this.sealed = sealed;
  }
}

export class RecordNode implements RamEntry {
  readonly #evicted: (node: RecordNode, bytes: Uint8Array) => void;
  readonly namespace: Namespace;
  /** null: the root of a namespace and an `extra`. */
  readonly parent: RecordNode | null;
  /** Own tokens, packed; a root's `extra`. */
  readonly key: string;
  /** What every record below this root is of. */
  readonly identity: Buffer;
  children: Map<string, RecordNode> | null = null;
  /** The arena block that holds it; -1: none. */
  arena = -1;
  /** In RAM. */
  bytes: Uint8Array | null = null;
  /** Copies and loads under way. */
  pins = 0;
  /** Its bytes are on their way from the GPU. */
  copying = false;
  /** How often its contents turned out not to be trusted: work begun before is thrown away. */
  discards = 0;
  #id = '';

  constructor(
    namespace: Namespace,
    parent: RecordNode | null,
    key: string,
    identity: Buffer,
    evicted: (node: RecordNode, bytes: Uint8Array) => void,
  ) {
    this.#evicted = evicted;
    this.namespace = namespace;
    this.parent = parent;
    this.key = key;
    this.identity = identity;
  }

  get id(): string {
    if (this.#id !== '') return this.#id;
    const unnamed: RecordNode[] = [];
    for (let node: RecordNode | null = this; node && node.#id === ''; node = node.parent) unnamed.push(node);
    for (const node of unnamed.reverse()) {
      const { parent, key } = node;
      const { keys } = node.namespace;
      node.#id = parent ? keys.blockId(parent.#id, key) : keys.rootId(key);
    }
    return this.#id;
  }

  get owner(): string {
    return this.namespace.account;
  }

  evicted(bytes: Uint8Array): void {
    this.#evicted(this, bytes);
  }

  get name(): RecordName {
    invariant(this.parent, 'a root has no record');
    return { id: this.id, parentId: this.parent.id, packedTokens: this.key, identity: this.identity };
  }
}

export class RecordTree {
  readonly #fingerprint: string;
  readonly #evicted: (node: RecordNode, bytes: Uint8Array) => void;

  /** `evicted`: told when a node's bytes left RAM for room. */
  constructor(fingerprint: string, evicted: (node: RecordNode, bytes: Uint8Array) => void) {
    this.#fingerprint = fingerprint;
    this.#evicted = evicted;
  }

  root(namespace: Namespace, extra: string): RecordNode {
    let root = namespace.roots.get(extra);
    if (!root) {
      root = new RecordNode(namespace, null, extra, identityOf(this.#fingerprint, extra), this.#evicted);
      namespace.roots.set(extra, root);
    }
    return root;
  }

  find(parent: RecordNode, namespace: Namespace, packedTokens: string): RecordNode | undefined {
    return parent.children?.get(childKey(parent, namespace, packedTokens));
  }

  ensure(parent: RecordNode, namespace: Namespace, packedTokens: string): RecordNode {
    const key = childKey(parent, namespace, packedTokens);
    const known = parent.children?.get(key);
    if (known) return known;
    const node = new RecordNode(namespace, parent, packedTokens, parent.identity, this.#evicted);
    parent.children ??= new Map();
    parent.children.set(key, node);
    namespace.nodes.add(node);
    return node;
  }

  /** Nodes of the path's first `blocks` blocks, made where missing. The last one wants a pin, or the next `prune` takes them. */
  ensurePath(path: CachedPath, namespaceAt: (block: number) => Namespace, blocks: number): RecordNode[] {
    const nodes: RecordNode[] = [];
    let node = this.root(namespaceAt(0), path.extra);
    for (let i = 0; i < blocks; i++) {
      node = this.ensure(node, namespaceAt(i), packTokens(path.tokens, i * BLOCK_TOKENS));
      nodes.push(node);
    }
    return nodes;
  }

  /** Forgets the node, and the ancestors that were only there for it, unless something needs them. */
  prune(node: RecordNode): void {
    for (let at: RecordNode | null = node; at; at = at.parent) {
      const { namespace } = at;
      const parent: RecordNode | null = at.parent;
      if (at.children?.size || at.arena >= 0 || at.bytes || at.pins > 0) return;
      if (!parent) {
        if (namespace.roots.get(at.key) === at) namespace.roots.delete(at.key);
        return;
      }
      const key = childKey(parent, namespace, at.key);
      if (parent.children?.get(key) === at) parent.children.delete(key);
      namespace.nodes.delete(at);
    }
  }
}

/** Packed tokens have one length, so a name behind them is told apart. Mostly a child is of its parent's own namespace. */
function childKey(parent: RecordNode, namespace: Namespace, packedTokens: string): string {
  return parent.namespace === namespace ? packedTokens : `${packedTokens}${namespace.name}`;
}
