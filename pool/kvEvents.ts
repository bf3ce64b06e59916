// The stream of what enters and leaves the prefix caches, for routers. One sequence over all engines, the last of it kept, so that a
// reader who comes back goes on where it was; who can't, because it is new, was away too long or comes from another process' time,
// hears `all_cleared` and then everything that is there. So a reader that applies the events always has the exact index.
import type { BlockChanges } from './blockFeed.ts';
import { BlockMirror, type BlockNews } from './blockMirror.ts';
import { overloaded } from './errors.ts';
import type { EventSink } from './eventStream.ts';
import { type KvEvent, scopeKey, scopeName } from './wire/kvEvents.ts';

/** Readers at once: a few gateways, twice during a change of them. */
const MAX_READERS = 16;

/** Block ids in the kept events, about 10 MB: minutes of a busy pool, for a reader that reconnects. */
const MAX_KEPT_IDS = 65_536;

const RETRY_AFTER_MS = 1000;

/** News with its place. Tokens are told only to who may hear them. */
interface Kept {
  sequence: number;
  models: string[];
  news: BlockNews;
}

export interface KvReader {
  /** Goes on behind this event of this epoch; null: from the beginning. */
  from: { epoch: string; sequence: number } | null;
  /** Only of this namespace and of public prefixes, which its prompts may begin with; null: of all. */
  namespace: string | null;
  /** With the tokens of that namespace's blocks. */
  tokens: boolean;
}

export interface KvEngine {
  id: string;
  models: string[];
  capacityBlocks: number;
}

interface Reader {
  sink: EventSink<KvEvent>;
  /** Scopes that it hears of; null: all. */
  scopes: ReadonlySet<string> | null;
  tokensOf: string | null;
}

export class KvEvents {
  readonly #epoch: string;
  readonly #publicScope: string;
  readonly #engines = new Map<string, { models: string[]; mirror: BlockMirror }>();
  readonly #readers = new Set<Reader>();
  readonly #maxKeptIds: number;
  #kept: Kept[] = [];
  #keptIds = 0;
  /** Of the last event; the beginning counts as one. */
  #sequence = 0;

  /** `epoch`: of this process' start. */
  constructor(epoch: string, publicNamespace: string, maxKeptIds = MAX_KEPT_IDS) {
    this.#epoch = epoch;
    this.#publicScope = scopeName(scopeKey(publicNamespace));
    this.#maxKeptIds = maxKeptIds;
  }

  /** Before the first change of an engine is applied. */
  open({ id, models, capacityBlocks }: KvEngine): void {
    this.#engines.set(id, { models, mirror: new BlockMirror(capacityBlocks) });
  }

  get readers(): number {
    return this.#readers.size;
  }

  apply(engine: string, changes: BlockChanges): void {
    const known = this.#engines.get(engine);
    if (!known) return; // its warm-up, which leaves nothing
    for (const news of known.mirror.apply(changes)) {
      const kept = { sequence: ++this.#sequence, models: known.models, news };
      this.#keep(kept);
      for (const reader of this.#readers) tell(reader, kept);
    }
  }

  /** Sends what the reader has missed, and from now on what happens, until it is gone. Throws PoolError (503). */
  subscribe({ from, namespace, tokens }: KvReader, sink: EventSink<KvEvent>, gone: AbortSignal): void {
    if (this.#readers.size >= MAX_READERS)
      throw overloaded(`There are ${MAX_READERS} readers of this stream already.`, RETRY_AFTER_MS);
    const own = namespace === null ? null : scopeName(scopeKey(namespace));
    const reader = {
      sink,
      scopes: own === null ? null : new Set([own, this.#publicScope]),
      tokensOf: tokens ? own : null,
    };
    const missed = from && this.#since(from);
    for (const kept of missed ?? this.#everything(reader)) tell(reader, kept);
    sink.send({ type: 'caught_up', sequence: this.#sequence });
    // What is too much at once loses its reader already.
    if (gone.aborted) return;
    this.#readers.add(reader);
    gone.addEventListener('abort', () => this.#readers.delete(reader), { once: true });
  }

  /** null: they are not all kept, or never were. */
  #since({ epoch, sequence }: { epoch: string; sequence: number }): Kept[] | null {
    const oldest = this.#kept[0]?.sequence ?? this.#sequence + 1;
    if (epoch !== this.#epoch || sequence < oldest - 1 || sequence > this.#sequence) return null;
    return this.#kept.slice(sequence - oldest + 1);
  }

  #everything({ sink }: Reader): Kept[] {
    sink.send({ type: 'all_cleared', epoch: this.#epoch });
    return [...this.#engines.values()].flatMap(({ models, mirror }) =>
      mirror.snapshot().map((news) => ({ sequence: -1, models, news })),
    );
  }

  #keep(kept: Kept): void {
    this.#kept.push(kept);
    this.#keptIds += kept.news.ids.length;
    if (this.#keptIds <= this.#maxKeptIds) return;
    // Half at a time: dropping one by one would move the rest each time.
    let drop = 0;
    while (this.#keptIds > this.#maxKeptIds / 2) this.#keptIds -= this.#kept[drop++]?.news.ids.length ?? 0;
    this.#kept = this.#kept.slice(drop);
  }
}

function tell({ sink, scopes, tokensOf }: Reader, { sequence, models, news }: Kept): void {
  if (scopes && !scopes.has(news.scope)) return;
  const { scope, ids } = news;
  if (news.kind === 'removed') sink.send({ type: 'removed', sequence, models, scope, ids });
  else {
    const token_ids = scope === tokensOf ? news.tokens.flatMap((tokens) => [...tokens]) : undefined;
    const { parent } = news;
    sink.send({ type: 'stored', sequence, models, scope, parent, ids, ...(token_ids && { token_ids }) });
  }
}
