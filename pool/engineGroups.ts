// Which configured models share an engine: those of one file, with equal settings of activations, KV and speculation. They have one runner, one arena,
// one prefix index and one queue, so that requests for either run in the same steps and hit what the other computed. Only how long a
// sequence may be is each model's own.
import type { PoolModelSection } from './config.ts';
import type { EngineModel } from './engineMessages.ts';

export function engineModels(models: readonly PoolModelSection[]): EngineModel[] {
  const groups = new Map<string, EngineModel>();
  for (const { id, contextLength, ...settings } of models) {
    const { path, activations, kvFormat, kvBlocks = null, kvWeight, speculation } = settings;
    const key = JSON.stringify([
      path,
      activations,
      kvFormat,
      kvBlocks,
      kvWeight,
      speculation.kind,
      speculation.maxDraftTokens,
    ]);
    let group = groups.get(key);
    if (!group) {
      group = { id, path, activations, kvFormat, kvBlocks, kvWeight, speculation, served: [] };
      groups.set(key, group);
    }
    group.served.push({ id, contextLength: contextLength ?? null });
  }
  return [...groups.values()];
}

/** The runner's: the longest that any of its models may need. undefined: as long as the file allows. */
export function contextLengthOf({ served }: EngineModel): number | undefined {
  const lengths = served.map(({ contextLength }) => contextLength);
  return lengths.includes(null) ? undefined : Math.max(...lengths.map((length) => length ?? 0));
}
