// Comparing token lists block by block, exactly: every look-up in the prefix cache ends here. Long stretches go through memcmp, which
// takes 20 µs for 200,000 tokens where a loop over Int32Array takes 100; short ones through the loop, which has no call to pay for.
import { BLOCK_TOKENS } from './modelRunner.ts';

/** Fewer blocks than this are compared in the loop: about where a call into memcmp has paid for itself. */
const LOOP_BLOCKS = 4;

const BLOCK_BYTES = BLOCK_TOKENS * Int32Array.BYTES_PER_ELEMENT;

/** A token list that is looked up, with a view for memcmp. */
export interface ComparableTokens {
  readonly tokens: Int32Array;
  readonly bytes: Buffer;
}

/** Views: they show what the array holds when they are read. */
export function comparable(tokens: Int32Array): ComparableTokens {
  return { tokens, bytes: Buffer.from(tokens.buffer as ArrayBuffer, tokens.byteOffset, tokens.byteLength) };
}

/** How many tokens are equal from a[aStart] and b[bStart] on, at most `most`. */
export function commonTokens(a: Int32Array, aStart: number, b: Int32Array, bStart: number, most: number): number {
  let i = 0;
  while (i < most && a[aStart + i] === b[bStart + i]) i += 1;
  return i;
}

/** How many whole blocks are equal from block `aBlock` of a and `bBlock` of b on, at most `most`. */
export function commonBlocks(
  a: ComparableTokens,
  aBlock: number,
  b: ComparableTokens,
  bBlock: number,
  most: number,
): number {
  let equal = 0;
  let end = most;
  // memcmp says that stretches differ, not where: halve until the loop is shorter. It stops at the first difference, so that a
  // long equal head is read twice at most.
  if (most > LOOP_BLOCKS && sameBlocks(a, aBlock, b, bBlock, most)) return most;
  while (end - equal > LOOP_BLOCKS) {
    const half = (end - equal) >> 1;
    if (sameBlocks(a, aBlock + equal, b, bBlock + equal, half)) equal += half;
    else end = equal + half;
  }
  const tokens = commonTokens(
    a.tokens,
    (aBlock + equal) * BLOCK_TOKENS,
    b.tokens,
    (bBlock + equal) * BLOCK_TOKENS,
    (end - equal) * BLOCK_TOKENS,
  );
  return equal + Math.floor(tokens / BLOCK_TOKENS);
}

function sameBlocks(a: ComparableTokens, aBlock: number, b: ComparableTokens, bBlock: number, count: number): boolean {
  const [from, to] = [aBlock * BLOCK_BYTES, bBlock * BLOCK_BYTES];
  const length = count * BLOCK_BYTES;
  return a.bytes.compare(b.bytes, to, to + length, from, from + length) === 0;
}
