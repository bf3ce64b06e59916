// The public prefixes of this pool, as the gateway last pushed them: renders each once, tells every engine the ids of its model, and
// reports what became of each. A set replaces the one before; what it has in common with it is not rendered again.
import { PoolError } from './errors.ts';
import { prefixTokens } from './prefixTokens.ts';
import type { PoolModel } from './servedModel.ts';
import { contentOf, digestOfSet, type PrefixReport, type PrefixSet, type PublicPrefix } from './wire/publicPrefixes.ts';

/** All that prompts of one model may share publicly, and the key of its blocks outside the process. */
export interface EnginePrefixes {
  sealKey: Uint8Array;
  prefixes: { id: string; tokens: Int32Array }[];
}

interface Rendered {
  model: string;
  tokens: Int32Array;
  /** null: it can be shared. */
  refused: string | null;
}

export interface PublicPrefixesOptions {
  model: (id: string) => PoolModel | undefined;
  declare: (model: string, prefixes: EnginePrefixes) => void;
  /** Gives way to requests between two prefixes. */
  pause: () => Promise<void>;
}

export class PublicPrefixes {
  readonly #options: PublicPrefixesOptions;
  /** The current set, by what each declares. */
  #rendered: ReadonlyMap<string, Rendered> = new Map();
  /** What the ids of the current set stand for. */
  #told: ReadonlyMap<string, Int32Array> = new Map();
  #digest: string | null = null;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: PublicPrefixesOptions) {
    this.#options = options;
  }

  /** Of the set that the engines were told; null before the first. */
  get digest(): string | null {
    return this.#digest;
  }

  /** One set after the other, in the order of the calls. */
  replace(set: PrefixSet): Promise<{ digest: string; prefixes: PrefixReport[] }> {
    const result = this.#turn.then(() => this.#replace(set));
    this.#turn = result.catch(() => {});
    return result;
  }

  async #replace(set: PrefixSet): Promise<{ digest: string; prefixes: PrefixReport[] }> {
    const rendered = new Map<string, Rendered>();
    for (const prefix of set.prefixes) {
      const key = contentOf(prefix);
      rendered.set(key, this.#rendered.get(key) ?? this.#render(prefix));
      await this.#options.pause();
    }
    const results = set.prefixes.flatMap((prefix) => {
      const result = rendered.get(contentOf(prefix));
      return result ? [{ id: prefix.id, ...result }] : [];
    });
    // Who has none any more must hear of it, too.
    const models = new Set([...this.#rendered.values(), ...results].map(({ model }) => model));
    // Models of one file share an engine and its bounds: what goes makes room in all of them before anything new comes.
    const staying = results.filter(({ id, tokens }) => this.#told.get(id) === tokens);
    if (this.#told.size > 0) for (const model of models) this.#tell(model, set, staying);
    for (const model of models) this.#tell(model, set, results);
    this.#told = new Map(results.map(({ id, tokens }) => [id, tokens]));
    this.#rendered = rendered;
    this.#digest = digestOfSet(set);
    return { digest: this.#digest, prefixes: results.map(reportOf) };
  }

  #tell(model: string, set: PrefixSet, results: readonly (Rendered & { id: string })[]): void {
    if (!this.#options.model(model)) return;
    const own = results.filter((one) => one.model === model && one.refused === null);
    this.#options.declare(model, {
      // Not a piece of Node's pool, which would cross the thread border as a whole.
      sealKey: Uint8Array.from(Buffer.from(set.seal, 'hex')),
      prefixes: own.map(({ id, tokens }) => ({ id, tokens })),
    });
  }

  #render(prefix: PublicPrefix): Rendered {
    const refused = (reason: string) => ({ model: prefix.model, tokens: new Int32Array(0), refused: reason });
    const model = this.#options.model(prefix.model);
    if (!model) return refused(`The model '${prefix.model}' is not served by this pool.`);
    try {
      return { model: prefix.model, tokens: Int32Array.from(prefixTokens(model, prefix)), refused: null };
    } catch (error) {
      if (error instanceof PoolError) return refused(error.message);
      throw error;
    }
  }
}

function reportOf({ id, tokens, refused }: Rendered & { id: string }): PrefixReport {
  if (refused === null) return { id, state: 'declared', tokens: tokens.length };
  return { id, state: 'refused', tokens: 0, reason: refused };
}
