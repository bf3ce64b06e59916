// A 53-bit digest of an exact token prefix, made block by block from its parent's. Only for policies that remember what they have
// seen: no answer may rest on it.

/** Odd multipliers of two independent 32-bit lanes (golden ratio, MurmurHash3). */
const LANES = [0x9e3779b1, 0x85ebca6b] as const;

function finish(high: number, low: number): number {
  const mixedHigh = Math.imul(high ^ (high >>> 15), 0xc2b2ae35);
  const mixedLow = Math.imul(low ^ (low >>> 16), 0x27d4eb2f);
  return ((mixedHigh ^ mixedLow) >>> 11) * 2 ** 32 + ((mixedLow ^ (mixedLow >>> 13)) >>> 0);
}

/** Of a namespace: where its chains begin. */
export function rootDigest(name: string, extra: string): number {
  let [high, low] = [name.length, extra.length];
  for (const text of [name, extra])
    for (let i = 0; i < text.length; i++) {
      high = Math.imul(high ^ text.charCodeAt(i), LANES[0]);
      low = Math.imul(low + text.charCodeAt(i), LANES[1]) ^ (low >>> 15);
    }
  return finish(high, low);
}

/** Of the prefix with digest `parent`, continued by tokens[start, start + count). */
export function extendDigest(parent: number, tokens: Int32Array, start: number, count: number): number {
  let high = Math.floor(parent / 2 ** 32) ^ count;
  let low = parent >>> 0;
  for (let i = start; i < start + count; i++) {
    const token = tokens[i]!;
    high = Math.imul(high ^ token, LANES[0]);
    high ^= high >>> 15;
    low = Math.imul(low + token, LANES[1]);
    low ^= low >>> 13;
  }
  return finish(high, low);
}
