// Prefixes that the operator has declared public for a model (a system prompt, a document): the whole blocks of a prompt that lie
// within one are the operator's in the prefix index, so that all tenants hit them. Compared token by token. Bounded in number
// and in length, so that looking one up stays far below the cost of a prompt.
import { BLOCK_TOKENS } from './modelRunner.ts';
import { type ComparableTokens, commonBlocks, commonTokens, comparable } from './tokenBlocks.ts';

/** Declared at once per model. More than a few dozen are a sign that requests, not the operator, choose them. */
export const MAX_PUBLIC_PREFIXES = 256;

/** Tokens of one prefix: a long document. */
export const MAX_PUBLIC_PREFIX_TOKENS = 262_144;

/** Tokens of all of them: 4 bytes each are kept. */
export const MAX_PUBLIC_TOKENS = 4_194_304;

export type DeclareRefusal = 'empty' | 'too many prefixes' | 'too many tokens';

interface Declared extends ComparableTokens {
  /** The longest other declared prefix that this one begins with. */
  within: Declared | null;
  ids: Set<string>;
}

export class PublicPrefixes {
  /** Seals public blocks outside this process, as a tenant's key does the tenant's; null: they stay in it. */
  sealKey: Uint8Array | null = null;
  /** Sorted by tokens, the shorter of two that agree first. */
  readonly #sorted: Declared[] = [];
  readonly #byId = new Map<string, Declared>();
  #tokens = 0;

  /** Declared ids. */
  get size(): number {
    return this.#byId.size;
  }

  get tokens(): number {
    return this.#tokens;
  }

  has(id: string): boolean {
    return this.#byId.has(id);
  }

  /** Declares `tokens` under `id`, in place of what the id stood for; null, or why it was refused with nothing changed. */
  declare(id: string, tokens: Int32Array): DeclareRefusal | null {
    const before = this.#byId.get(id);
    if (tokens.length === 0) return 'empty';
    if (!before && this.#byId.size === MAX_PUBLIC_PREFIXES) return 'too many prefixes';
    const asked = comparable(tokens);
    const known = this.#find(asked);
    const freed = before && before !== known && before.ids.size === 1 ? before.tokens.length : 0;
    const added = known ? 0 : tokens.length;
    if (tokens.length > MAX_PUBLIC_PREFIX_TOKENS || this.#tokens - freed + added > MAX_PUBLIC_TOKENS)
      return 'too many tokens';
    if (before && before === known) return null;
    if (before) this.withdraw(id);
    const entry = known ?? this.#enter(comparable(tokens.slice()));
    entry.ids.add(id);
    this.#byId.set(id, entry);
    return null;
  }

  /** From now on nobody hits its blocks, unless another id declares them; false: there was none. */
  withdraw(id: string): boolean {
    const entry = this.#byId.get(id);
    if (!entry) return false;
    this.#byId.delete(id);
    entry.ids.delete(id);
    if (entry.ids.size > 0) return true;
    this.#tokens -= entry.tokens.length;
    this.#sorted.splice(this.#sorted.indexOf(entry), 1);
    for (const other of this.#sorted) if (other.within === entry) other.within = entry.within;
    return true;
  }

  /** Leading whole blocks of tokens[0, length) that lie within the longest declared prefix which they begin with. */
  leadingBlocks(tokens: Int32Array, length: number): number {
    if (this.#sorted.length === 0) return 0;
    const prompt = comparable(tokens.subarray(0, length));
    // Every declared prefix of the prompt is also one of its predecessor in the order: what lies between shares it.
    const entry = longestWithin(this.#sorted[this.#placeAfter(prompt) - 1], prompt);
    return entry ? Math.floor(entry.tokens.length / BLOCK_TOKENS) : 0;
  }

  #find(asked: ComparableTokens): Declared | undefined {
    const last = this.#sorted[this.#placeAfter(asked) - 1];
    const { length } = asked.tokens;
    return last?.tokens.length === length && commonLength(last, asked) === length ? last : undefined;
  }

  #enter(asked: ComparableTokens): Declared {
    const place = this.#placeAfter(asked);
    const within = longestWithin(this.#sorted[place - 1], asked);
    const entry: Declared = { ...asked, within, ids: new Set() };
    for (let i = place; i < this.#sorted.length; i++) {
      const other = this.#sorted[i]!;
      if (commonLength(other, asked) < asked.tokens.length) break;
      if (other.within === within) other.within = entry;
    }
    this.#sorted.splice(place, 0, entry);
    this.#tokens += asked.tokens.length;
    return entry;
  }

  /** Place of the first entry that is after `asked`. */
  #placeAfter(asked: ComparableTokens): number {
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const own = this.#sorted[middle]!;
      const agreed = commonLength(own, asked);
      const differs = agreed < own.tokens.length && agreed < asked.tokens.length;
      const after = differs ? own.tokens[agreed]! > asked.tokens[agreed]! : agreed < own.tokens.length;
      if (after) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** `entry`, or the longest of what it begins with, that `asked` begins with as well. */
function longestWithin(entry: Declared | undefined, asked: ComparableTokens): Declared | null {
  const agreed = entry ? commonLength(entry, asked) : 0;
  let found = entry ?? null;
  while (found && found.tokens.length > agreed) found = found.within;
  return found;
}

/** Tokens that the two have in common from the start. */
function commonLength(a: ComparableTokens, b: ComparableTokens): number {
  const most = Math.min(a.tokens.length, b.tokens.length);
  const blocks = commonBlocks(a, 0, b, 0, Math.floor(most / BLOCK_TOKENS)) * BLOCK_TOKENS;
  return blocks + commonTokens(a.tokens, blocks, b.tokens, blocks, most - blocks);
}
