// How the engines of one device divide the memory for KV between them, before any arena exists. Pure. An engine has the blocks that
// its configuration names, or else a share, by weight, of what those leave of the budget.

/** Blocks of an engine when neither it nor a budget says: 16,384 tokens. */
export const DEFAULT_KV_BLOCKS = 1024;

/** Fewer could not even hold a prompt and its first answer. */
const MIN_KV_BLOCKS = 2;

export interface KvDemand {
  model: string;
  /** Bytes of one block over all layers. */
  blockBytes: number;
  /** null: a share of what is left. */
  kvBlocks: number | null;
  /** Share relative to the others'; > 0. */
  weight: number;
}

/** The budget is too small. The message names the fields to change. */
export class KvBudgetError extends Error {
  override readonly name = 'KvBudgetError';
  readonly code = 'kv_budget';
}

/** Blocks of each engine, in order. `budgetBytes` null: no budget. Throws KvBudgetError. */
export function divideKvBudget(budgetBytes: number | null, demands: readonly KvDemand[]): number[] {
  if (budgetBytes === null) return demands.map(({ kvBlocks }) => kvBlocks ?? DEFAULT_KV_BLOCKS);
  const fixedBytes = demands.reduce((sum, { kvBlocks, blockBytes }) => sum + (kvBlocks ?? 0) * blockBytes, 0);
  if (fixedBytes > budgetBytes) {
    const named = demands.filter(({ kvBlocks }) => kvBlocks !== null).map(({ model }) => model);
    throw new KvBudgetError(
      `The kvBlocks of ${named.join(', ')} need ${fixedBytes} bytes, and pool.kvBytes is ${budgetBytes}. Raise pool.kvBytes, or lower models[].kvBlocks.`,
    );
  }
  const sharing = demands.filter(({ kvBlocks }) => kvBlocks === null);
  const weights = sharing.reduce((sum, { weight }) => sum + weight, 0);
  let leftBytes = budgetBytes - fixedBytes;
  return demands.map(({ model, kvBlocks, blockBytes, weight }) => {
    if (kvBlocks !== null) return kvBlocks;
    const shareBytes = (budgetBytes - fixedBytes) * (weight / weights);
    // What is left bounds it, too: shares may add up to a rounding error more.
    const blocks = Math.floor(Math.min(shareBytes, leftBytes) / blockBytes);
    leftBytes -= blocks * blockBytes;
    if (blocks < MIN_KV_BLOCKS)
      throw new KvBudgetError(
        `The share of ${model} in pool.kvBytes is ${Math.floor(shareBytes)} bytes, less than ${MIN_KV_BLOCKS} of its blocks of ${blockBytes}. Raise pool.kvBytes, or its models[].kvWeight.`,
      );
    return blocks;
  });
}
