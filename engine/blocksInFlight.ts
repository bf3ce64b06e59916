// Blocks that are being computed now: a prompt in progress leads, and requests that need the same blocks follow it rather than compute
// them again. A follower waits for all that it shares with its leader, the last block included that it shares in part only and will
// copy. It goes on when that is published, when the leader leaves for whatever reason, and in any case after a number of steps fixed
// when it first waited. It knows no queue and no blocks: who it names may go back to wherever it waits.
import { PUBLIC_NAMESPACE } from './blockManager.ts';
import { IndexedHeap } from './indexedHeap.ts';
import { invariant } from './invariant.ts';
import { BLOCK_TOKENS } from './modelRunner.ts';
import type { Sequence } from './sequence.ts';

/**
 * How long a follower waits at most: this many times the steps that the missing tokens would take alone, and some more. A leader that
 * is so much slower (its tenant has had its share) is overtaken: computing twice is then better than waiting on.
 */
const PATIENCE_FACTOR = 4;
const PATIENCE_STEPS = 16;

/** Fewer tokens beyond what is cached are computed in less time than a step's wait. */
const MIN_SHARED_TOKENS = 8;

interface Leader {
  sequence: Sequence;
  /** Positions that it knew when it began: all are published once they are computed, its last block partly filled. */
  until: number;
  /** Leading positions that other namespaces find as well. */
  publicPositions: number;
  followers: Set<Follower>;
}

interface Follower {
  sequence: Sequence;
  leader: Leader;
  /** Positions that the leader must have published. */
  positions: number;
}

/** What shares blocks: a namespace and whatever else is part of a block's key. */
function sharingKey(namespace: string, extra: string): string {
  return `${extra.length} ${extra}${namespace}`;
}

export class BlocksInFlight {
  readonly #stepTokens: number;
  /** Leaders by sharing key. Those of one key differ in the first block that is not cached, save for whom patience has left. */
  readonly #leaders = new Map<string, Leader[]>();
  readonly #leaderOf = new Map<Sequence, Leader>();
  readonly #followerOf = new Map<Sequence, Follower>();
  readonly #patience = new IndexedHeap<Sequence>(
    (a, b) => (a.followUntilStep! - b.followUntilStep! || a.arrival - b.arrival) < 0,
  );

  /** `stepTokens`: the budget of a step. */
  constructor(stepTokens: number) {
    this.#stepTokens = stepTokens;
  }

  get following(): number {
    return this.#followerOf.size;
  }

  /** The sequence begins to compute what it knows beyond `computed`. */
  lead(sequence: Sequence, publicPositions: number): void {
    const until = sequence.length;
    if (!sequence.request.cache || until <= sequence.computed) return;
    const leader = { sequence, until, publicPositions, followers: new Set<Follower>() };
    for (const key of keysOf(leader)) {
      const leaders = this.#leaders.get(key);
      if (leaders) leaders.push(leader);
      else this.#leaders.set(key, [leader]);
    }
    this.#leaderOf.set(sequence, leader);
  }

  /** Whether anybody leads where the sequence's blocks are: if not, there is nothing to look up. */
  leads({ request: { cache } }: Sequence, publicPositions: number): boolean {
    if (!cache) return false;
    const { scope, extra } = cache;
    return (
      this.#leaders.has(sharingKey(scope.namespace, extra)) ||
      (publicPositions > 0 && this.#leaders.has(publicKey(extra)))
    );
  }

  /**
   * Lets the sequence follow whoever computes most of what it needs beyond the `cached` positions that it would find now; false when
   * nobody does, or when it has waited long enough. `publicPositions`: its leading ones that all namespaces share.
   */
  follow(sequence: Sequence, cached: number, publicPositions: number, step: number): boolean {
    const { cache } = sequence.request;
    if (!cache || (sequence.followUntilStep !== null && step >= sequence.followUntilStep)) return false;
    let best: Leader | undefined;
    let most = cached + MIN_SHARED_TOKENS - 1;
    const consider = (key: string, limit: number): void => {
      for (const leader of this.#leaders.get(key) ?? []) {
        const shared = sharedTokens(sequence, leader.sequence, cached, Math.min(limit, leader.until));
        if (shared <= most || goal(shared, leader) <= leader.sequence.computed) continue;
        best = leader;
        most = shared;
      }
    };
    const { maxCached } = sequence;
    consider(sharingKey(cache.scope.namespace, cache.extra), maxCached);
    if (publicPositions > 0) consider(publicKey(cache.extra), Math.min(maxCached, publicPositions));
    if (!best) return false;
    this.#join(sequence, best, goal(most, best), Math.ceil((most - cached) / this.#stepTokens), step);
    return true;
  }

  #join(sequence: Sequence, leader: Leader, positions: number, missingSteps: number, step: number): void {
    sequence.followUntilStep ??= step + PATIENCE_FACTOR * missingSteps + PATIENCE_STEPS;
    const follower = { sequence, leader, positions };
    leader.followers.add(follower);
    this.#followerOf.set(sequence, follower);
    this.#patience.add(sequence);
  }

  /** What the leader has computed is published: who has waited for no more than that. */
  published(sequence: Sequence): Sequence[] {
    const leader = this.#leaderOf.get(sequence);
    if (!leader) return [];
    if (sequence.computed >= leader.until) return this.leave(sequence);
    const ready: Sequence[] = [];
    for (const follower of leader.followers) if (follower.positions <= sequence.computed) ready.push(follower.sequence);
    for (const one of ready) this.forget(one);
    return ready;
  }

  /** The leader publishes no more: all who follow it. */
  leave(sequence: Sequence): Sequence[] {
    const leader = this.#leaderOf.get(sequence);
    if (!leader) return [];
    this.#leaderOf.delete(sequence);
    for (const key of keysOf(leader)) {
      const leaders = this.#leaders.get(key)!;
      leaders.splice(leaders.indexOf(leader), 1);
      if (leaders.length === 0) this.#leaders.delete(key);
    }
    const left = Array.from(leader.followers, (follower) => follower.sequence);
    for (const one of left) this.forget(one);
    return left;
  }

  /** Followers whose patience is at an end. */
  impatient(step: number): Sequence[] {
    const left: Sequence[] = [];
    for (let next = this.#patience.first; next && next.followUntilStep! <= step; next = this.#patience.first) {
      left.push(next);
      this.forget(next);
    }
    return left;
  }

  /** The sequence follows no more. */
  forget(sequence: Sequence): void {
    const follower = this.#followerOf.get(sequence);
    if (!follower) return;
    this.#followerOf.delete(sequence);
    this.#patience.delete(sequence);
    follower.leader.followers.delete(follower);
  }

  /** Self-check: who follows waits for something that is still to come. */
  checkInvariants(): void {
    for (const { sequence, leader, positions } of this.#followerOf.values()) {
      invariant(sequence.state === 'following', 'who follows is queued as such', { state: sequence.state });
      invariant(this.#leaderOf.get(leader.sequence) === leader, 'a follower has a leader');
      invariant(positions > leader.sequence.computed, 'a follower waits for what is not there yet', { positions });
    }
    for (const { sequence } of this.#leaderOf.values())
      invariant(sequence.table !== null, 'a leader holds blocks', { state: sequence.state });
  }
}

function publicKey(extra: string): string {
  return sharingKey(PUBLIC_NAMESPACE, extra);
}

function keysOf({ sequence, publicPositions }: Leader): string[] {
  const { scope, extra } = sequence.request.cache!;
  const own = sharingKey(scope.namespace, extra);
  return publicPositions > 0 ? [own, publicKey(extra)] : [own];
}

/** Positions that the leader must have computed so that `shared` of them can be found: the end of a block, or of what it knew. */
function goal(shared: number, leader: Leader): number {
  return Math.min(leader.until, Math.ceil(shared / BLOCK_TOKENS) * BLOCK_TOKENS);
}

/**
 * Leading tokens, at most `most`, in which two sequences agree; 0 unless that is more than `from`. What comes after `from` is compared
 * first: leaders of one namespace rarely agree there, and mostly do before.
 */
function sharedTokens(a: Sequence, b: Sequence, from: number, most: number): number {
  const { tokens } = a;
  const other = b.tokens;
  let shared = from;
  while (shared < most && tokens[shared] === other[shared]) shared += 1;
  if (shared <= from) return 0;
  for (let i = 0; i < from; i++) if (tokens[i] !== other[i]) return 0;
  return shared;
}
