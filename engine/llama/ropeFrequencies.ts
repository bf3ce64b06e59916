// How fast each pair of dimensions turns with the position: theta^(-2i / ropeDim), over the linear scale of positions and over the factors that
// Llama 3's files carry as a tensor. In double precision on the host, so that no driver's arithmetic is in a result.
import { readRows } from '../model/dequantize.ts';
import { ModelFileError } from '../model/errors.ts';
import { ROPE_FACTORS } from '../model/llamaConfig.ts';
import type { ModelConfig, ModelFile } from '../model/types.ts';

/** Radians per position, [ropeDim / 2]; `factors` likewise, or null for none. */
export function scaledFrequencies(
  { ropeDim, ropeTheta, ropeScale }: Pick<ModelConfig, 'ropeDim' | 'ropeTheta' | 'ropeScale'>,
  factors: Float32Array | null,
): Float64Array {
  return Float64Array.from(
    { length: ropeDim / 2 },
    (_, pair) => ropeTheta ** ((-2 * pair) / ropeDim) / ropeScale / (factors?.[pair] ?? 1),
  );
}

/** Frequencies of a model file. Throws ModelFileError where a factor isn't a positive number. */
export async function ropeFrequencies(file: ModelFile): Promise<Float64Array> {
  const tensor = file.tensors.get(ROPE_FACTORS);
  const factors = tensor ? await readRows(file, tensor) : null;
  const wrong = factors?.findIndex((factor) => !(factor > 0 && factor < Number.POSITIVE_INFINITY)) ?? -1;
  if (wrong >= 0)
    throw new ModelFileError(
      'malformed',
      `tensor "${ROPE_FACTORS}" has ${factors?.[wrong]} at ${wrong}; positive numbers are supported`,
    );
  return scaledFrequencies(file.config, factors);
}
