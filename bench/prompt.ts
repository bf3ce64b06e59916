/** Ids spread over the vocabulary's common part: what they say does not matter for speed. Every stream has its own. */
export const promptOf = (tokens: number, stream: number): number[] =>
  Array.from({ length: tokens }, (_, i) => 300 + ((i * 7919 + stream * 104_729) % 20_000));
