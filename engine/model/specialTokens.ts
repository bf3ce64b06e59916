// Finds special tokens written out in a text: leftmost first, the longest of those that begin at the same place. A trie, so that the
// time is bounded by text length × longest token, however many tokens there are. For chat templates, which need the places of the
// tokens and the text between them; the splitter of @huggingface/tokenizers, which serves texts as a whole, isn't exported.

interface Node {
  children: Map<number, Node>;
  /** Token that ends here, or -1. */
  id: number;
}

export class SpecialTokens {
  readonly #root: Node = { children: new Map(), id: -1 };

  constructor(entries: Iterable<readonly [text: string, id: number]>) {
    for (const [text, id] of entries) {
      let node = this.#root;
      for (let i = 0; i < text.length; i++) {
        const unit = text.charCodeAt(i);
        let child = node.children.get(unit);
        if (!child) {
          child = { children: new Map(), id: -1 };
          node.children.set(unit, child);
        }
        node = child;
      }
      node.id = id;
    }
  }

  /** The longest token that begins at `at`, or null. */
  matchAt(text: string, at: number): { id: number; length: number } | null {
    let node = this.#root.children.get(text.charCodeAt(at));
    let best: { id: number; length: number } | null = null;
    for (let end = at + 1; node; end++) {
      if (node.id >= 0) best = { id: node.id, length: end - at };
      node = node.children.get(text.charCodeAt(end));
    }
    return best;
  }

  /** Walks the text in order: `onPlain` for what lies between tokens (never empty), `onToken` for each token. */
  split(text: string, onPlain: (text: string) => void, onToken: (id: number) => void): void {
    let start = 0;
    for (let at = 0; at < text.length; ) {
      const match = this.matchAt(text, at);
      if (!match) {
        at++;
        continue;
      }
      if (at > start) onPlain(text.slice(start, at));
      onToken(match.id);
      at += match.length;
      start = at;
    }
    if (start < text.length) onPlain(text.slice(start));
  }
}
