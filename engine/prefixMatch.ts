// The longest prefix of a prompt that the index holds, and the block that agrees longest with what follows. All tokens are compared: run
// by run with memcmp, from child to child by binary search.
//
//   key of a prompt:   [ public ][ public ][ own ][ own ] …     the first `publicBlocks` blocks are the operator's, found by all; the
//                                          └ a child of the public block that only this namespace's prompts descend to
import { BLOCK_TOKENS } from './modelRunner.ts';
import type { Namespace, PrefixRun } from './prefixRun.ts';
import { commonBlocks, commonTokens, comparable } from './tokenBlocks.ts';

/** Whose blocks a prompt may find. undefined: a namespace that has none. */
export interface PrefixKey {
  own: Namespace | undefined;
  public: Namespace | undefined;
  publicBlocks: number;
}

/** The longest indexed prefix of a prompt. */
export interface PrefixMatch {
  /** Whole blocks. */
  blocks: number;
  /** The run of the last of them, and how many of that run's blocks belong to the match; null when there is none. */
  run: PrefixRun | null;
  inRun: number;
  /** The block that agrees with most of the tokens after them, and how many those are; -1 and 0 when none agrees. */
  copySource: number;
  copyTokens: number;
}

/** The longest indexed prefix of `tokens` within `maxTokens`. O(tokens + runs · log children). */
export function matchPrefix(key: PrefixKey, tokens: Int32Array, maxTokens: number): PrefixMatch {
  const found: PrefixMatch = { blocks: 0, run: null, inRun: 0, copySource: -1, copyTokens: 0 };
  const whole = Math.floor(maxTokens / BLOCK_TOKENS);
  let prompt: ReturnType<typeof comparable> | null = null;
  let above = (key.publicBlocks > 0 ? key.public : key.own)?.root;
  while (above) {
    const at = found.blocks;
    const inPublic = at < key.publicBlocks;
    const namespace = inPublic ? key.public : key.own;
    if (!namespace) break;
    const wanted = Math.min(BLOCK_TOKENS, maxTokens - at * BLOCK_TOKENS);
    if (wanted <= 0) break;
    const place = above.place(namespace, tokens, at * BLOCK_TOKENS, wanted);
    const child = above.children[place];
    const first = child?.namespace === namespace ? child.agreement(tokens, at * BLOCK_TOKENS, wanted) : 0;
    if (!child || first < BLOCK_TOKENS) {
      const before = above.children[place - 1];
      const last = before?.namespace === namespace ? before.agreement(tokens, at * BLOCK_TOKENS, wanted) : 0;
      if (first >= last) offer(found, child, 0, first);
      else offer(found, before, 0, last);
      break;
    }
    const reach = Math.min(child.length, whole - at, inPublic ? key.publicBlocks - at : child.length);
    if (reach > 1) prompt ??= comparable(tokens);
    const equal = prompt ? commonBlocks(child, 0, prompt, at, reach) : reach;
    found.blocks += equal;
    found.run = child;
    found.inRun = equal;
    if (equal < child.length) {
      const stillOurs = found.blocks < key.publicBlocks === inPublic;
      const rest = Math.min(BLOCK_TOKENS, maxTokens - found.blocks * BLOCK_TOKENS);
      const start = found.blocks * BLOCK_TOKENS;
      if (stillOurs && rest > 0)
        offer(found, child, equal, commonTokens(child.tokens, equal * BLOCK_TOKENS, tokens, start, rest));
      break;
    }
    above = child;
  }
  return found;
}

function offer(found: PrefixMatch, run: PrefixRun | undefined, inRun: number, tokens: number): void {
  if (!run || tokens === 0) return;
  found.copySource = run.blocks[inRun]!;
  found.copyTokens = tokens;
}
