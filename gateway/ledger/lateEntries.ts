// Entries that are not everywhere yet where they are to be (entryRuns.ts), in memory by tenant: what they add up to under a rule. Pure.
import { countsFor, type KeptRule, type Metric } from './limits.ts';
import { earliestOfMinute, type MinuteBucket, oldestSecond } from './minuteWindow.ts';
import type { Window } from './windows.ts';

/** What limits count of an entry. */
export interface LateEntry {
  sequence: number;
  keyId: string;
  model: string;
  tokens: number;
  /** Nano-dollars. */
  spend: number;
  reservedAtMs: number;
  /** In minutes' rings (minuteWindow.ts). */
  second: number;
}

interface TenantEntries {
  all: LateEntry[];
  /** null: nobody has asked for a key's own yet. */
  byKey: Map<string, LateEntry[]> | null;
}

const NONE: readonly LateEntry[] = [];

/** All lists ascend by sequence. */
export class LateEntries {
  readonly #tenants = new Map<string, TenantEntries>();
  count = 0;

  add(tenant: string, entry: LateEntry): void {
    const known = this.#tenants.get(tenant);
    if (known) {
      known.all.push(entry);
      if (known.byKey) append(known.byKey, entry);
    } else this.#tenants.set(tenant, { all: [entry], byKey: null });
    this.count++;
  }

  /** The one that was added last. */
  takeBack(tenant: string): LateEntry | undefined {
    const known = this.#tenants.get(tenant);
    const last = known?.all.pop();
    if (last === undefined) return undefined;
    known?.byKey?.get(last.keyId)?.pop();
    this.count--;
    return last;
  }

  /** null: of all keys. */
  of(tenant: string, keyId: string | null): readonly LateEntry[] {
    const known = this.#tenants.get(tenant);
    if (!known || keyId === null) return known?.all ?? NONE;
    known.byKey ??= Map.groupBy(known.all, (entry) => entry.keyId);
    return known.byKey.get(keyId) ?? NONE;
  }
}

function append(keys: Map<string, LateEntry[]>, entry: LateEntry): void {
  const own = keys.get(entry.keyId);
  if (own) own.push(entry);
  else keys.set(entry.keyId, [entry]);
}

type Counting = Pick<KeptRule, 'metric' | 'models'>;

const AMOUNTS: Readonly<Record<Metric, (entry: LateEntry) => number>> = {
  requests: () => 1,
  tokens: ({ tokens }) => tokens,
  spend: ({ spend }) => spend,
  concurrent: () => 0,
};

/** What is settled in a window by entries behind a sequence. */
export function sumBehind(entries: readonly LateEntry[], through: number, rule: Counting, window: Window): number {
  const amountOf = AMOUNTS[rule.metric];
  const untilMs = window.endMs ?? Number.POSITIVE_INFINITY;
  let sum = 0;
  for (let i = entries.length - 1; i >= 0 && entries[i]!.sequence > through; i--) {
    const entry = entries[i]!;
    const within = entry.reservedAtMs >= window.startMs && entry.reservedAtMs < untilMs;
    if (within && countsFor(rule, entry.model)) sum += amountOf(entry);
  }
  return sum;
}

/** The same of those that may count at `second`, in any order. */
export function bucketsBehind(
  entries: readonly LateEntry[],
  through: number,
  rule: Counting,
  second: number,
): MinuteBucket[] {
  const amountOf = AMOUNTS[rule.metric];
  const [oldest, earliestMs] = [oldestSecond(second), earliestOfMinute(second)];
  const buckets = new Map<number, MinuteBucket>();
  for (let i = entries.length - 1; i >= 0 && entries[i]!.sequence > through; i--) {
    const entry = entries[i]!;
    if (entry.second < oldest || entry.reservedAtMs < earliestMs || !countsFor(rule, entry.model)) continue;
    const settled = amountOf(entry);
    const bucket = buckets.get(entry.second);
    if (bucket) bucket.settled += settled;
    else if (settled > 0) buckets.set(entry.second, { second: entry.second, settled, held: 0 });
  }
  return [...buckets.values()];
}

/** The latest second of any of them; 0: there are none. */
export function newestOf(entries: readonly LateEntry[]): number {
  return entries.reduce((latest, { second }) => Math.max(latest, second), 0);
}
