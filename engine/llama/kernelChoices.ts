// Which variant of each kernel a model runs with on this adapter: by rule, or as its tuner measured. All variants that may be chosen are declared, so
// that the digest of sources, and with it the fingerprint, is the same whatever is chosen.
import type { AttentionVariant } from '../../wgsl/attention/shader.ts';
import type { KvFormat } from '../../wgsl/kv/format.ts';
import { type Activations, COLUMNS, type MatmulForm } from '../../wgsl/matmul/variant.ts';
import type { SampleShape } from '../../wgsl/sample/row.ts';
import type { OpenedDevice } from '../gpu/device.ts';
import { invariant } from '../invariant.ts';
import type { ModelConfig } from '../model/types.ts';
import { byRule, type Tunable, type Verdict } from '../tuning/tunable.ts';
import type { Tuner } from '../tuning/tuner.ts';
import { singleVariants, tileVariants } from './attentionVariants.ts';
import type { ColumnFigures } from './matmulFamily.ts';
import type { Pipelines } from './pipelines.ts';
import { AttentionTuning } from './tuneAttention.ts';
import { columnsName, familiesOf, familyKey, type MatmulFamilyShape, MatmulTuning } from './tuneMatmul.ts';
import { normalizeTunable } from './tuneNormalize.ts';
import { cutTunable } from './tuneSampling.ts';
import type { Weights } from './weights.ts';

export interface MatmulChoice {
  form: MatmulForm;
  /** undefined: not measured. */
  columns: ColumnFigures | undefined;
  /** Labels of forms that the self-test dropped. */
  dropped: readonly string[];
}

export interface KernelChoices {
  matmul(family: MatmulFamilyShape): MatmulChoice;
  /** Attention of tiles of rows, and of single rows. */
  tiles: AttentionVariant;
  singles: AttentionVariant;
  normalizeLanes(format: Activations): number;
  cutLanes: number;
}

export interface ChoosingOptions {
  pipelines: Pipelines;
  gpu: OpenedDevice;
  config: ModelConfig;
  weights: Weights;
  activations: Activations;
  kvFormat: KvFormat;
  sampling: SampleShape;
  /** null: the tuner's to choose. */
  splitsApart: boolean | null;
  /** null: everything by rule. */
  tuner: Tuner | null;
}

/** What takes most of a step is settled first: the budget may end before the rest. */
export async function chooseKernels(options: ChoosingOptions): Promise<KernelChoices> {
  const { pipelines, gpu, config, weights, activations, kvFormat, sampling, splitsApart, tuner } = options;
  const families = familiesOf(weights, ({ quantized }) => (quantized ? activations : 'f32'));
  const formats = new Set(families.map(({ family }) => family.activations));
  const total = 2 * families.length + formats.size + 3;
  const settle = async (tunable: Tunable): Promise<Verdict> => (await tuner?.settle(tunable, total)) ?? byRule(tunable);
  /** The one of `values`, in the order of the tunable's names, that is chosen. */
  const pick = async <T>(tunable: Tunable, values: readonly T[]): Promise<T> =>
    values[tunable.names.indexOf((await settle(tunable)).chosen)]!;
  const { maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX, maxComputeWorkgroupStorageSize } =
    gpu.device.limits;
  const adapter = {
    software: gpu.software,
    subgroupSize: gpu.subgroupSize,
    maxLanes: Math.min(maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX),
    workgroupBytes: maxComputeWorkgroupStorageSize,
  };

  const matmul = new MatmulTuning(pipelines, adapter);
  const chosen = new Map<string, MatmulChoice>();
  for (const sample of families) {
    const { forms, tunable } = matmul.forms(sample);
    const verdict = await settle(tunable);
    const form = forms[tunable.names.indexOf(verdict.chosen)]!;
    const columns = figuresOf(await settle(matmul.columns(sample, form)));
    chosen.set(familyKey(sample.family), { form, columns, dropped: verdict.dropped });
  }
  const attention = new AttentionTuning(pipelines, config, kvFormat, formats);
  const tileChoices = tileVariants(config, kvFormat, adapter);
  const tiles = attention.tiles(tileChoices);
  const singleChoices = singleVariants(config, kvFormat, adapter, splitsApart);
  const singles = attention.singles(singleChoices);
  const tile = await pick(tiles, tileChoices);
  const single = await pick(singles, singleChoices);
  const lanes = new Map<Activations, number>();
  for (const format of formats) {
    const norm = normalizeTunable(pipelines, format, config.hidden, adapter);
    lanes.set(format, await pick(norm.tunable, norm.lanes));
  }
  const cut = cutTunable(pipelines, sampling, adapter);
  return {
    matmul(family) {
      const choice = chosen.get(familyKey(family));
      invariant(choice, 'every matrix is of a known family', { family: familyKey(family) });
      return choice;
    },
    ...{ tiles: tile, singles: single },
    normalizeLanes(format) {
      const count = lanes.get(format);
      invariant(count, 'every type of activations has a norm', { format });
      return count;
    },
    cutLanes: await pick(cut.tunable, cut.lanes),
  };
}

/** Costs and usable numbers of columns, where they were measured. */
function figuresOf({ why, seconds, dropped }: Verdict): ColumnFigures | undefined {
  if (why === 'rule') return undefined;
  const unusable = COLUMNS.filter((columns) => dropped.includes(columnsName(columns)));
  // A run is of 12 rows with each, in 12 / columns times a lane's work.
  const costs = COLUMNS.map((columns) => (seconds[columnsName(columns)] ?? Number.POSITIVE_INFINITY) * columns);
  return { costs, dropped: unusable };
}
