// Compiles each shader once per device, by its label. Bind group layouts are derived from the shader, except for matrix kernels, whose
// activations and result move by dynamic offsets.
import { createHash } from 'node:crypto';
import { EPILOGUE_BINDING, type Epilogue, STORE } from '../../wgsl/matmul/epilogue.ts';
import { hasScales, LANE_GROUP } from '../../wgsl/matmul/layout.ts';
import { matmulShader } from '../../wgsl/matmul/shader.ts';
import { type BroadcastLanes, type MatmulForm, type MatmulVariant, variantLabel } from '../../wgsl/matmul/variant.ts';
import { type ColumnFigures, MatmulFamily } from './matmulFamily.ts';

/** A shader that the driver or the WGSL compiler refused: our bug or the driver's. Carries the compiler's words. */
export class ShaderError extends Error {
  override readonly name = 'ShaderError';
  readonly code = 'shader_refused';
}

/** What forms and numbers of columns don't change. */
export interface MatmulShape extends Pick<MatmulVariant, 'kind' | 'activations'> {
  /** Default: sums are stored. */
  epilogue?: Epilogue;
}

export class Pipelines {
  readonly device: GPUDevice;
  readonly #pipelines = new Map<string, Promise<GPUComputePipeline>>();
  readonly #matmulLayouts = new Map<string, GPUBindGroupLayout>();
  readonly #families = new Map<string, Promise<MatmulFamily>>();
  readonly #sources = new Map<string, string>();

  constructor(device: GPUDevice) {
    this.device = device;
  }

  /** A pipeline of the model's steps: its source counts in the digest. The layout is derived from the shader where none is given. */
  get(label: string, code: () => string, layout: GPUPipelineLayout | 'auto' = 'auto'): Promise<GPUComputePipeline> {
    this.declare(label, code);
    return this.compile(label, code, layout);
  }

  matmul(variant: MatmulVariant, epilogue: Epilogue = STORE): Promise<GPUComputePipeline> {
    const layout = this.device.createPipelineLayout({ bindGroupLayouts: [this.matmulLayout(variant, epilogue)] });
    return this.compile(`${variantLabel(variant)} ${epilogue.label}`, () => matmulShader(variant, epilogue), layout);
  }

  /** One form's variants for all numbers of columns. Their sources are declared by whoever chose the form. */
  matmulFamily(
    { epilogue = STORE, ...family }: MatmulShape,
    form: MatmulForm,
    columns?: ColumnFigures,
  ): Promise<MatmulFamily> {
    const key = `${variantLabel({ ...family, ...form, columns: 1 })} ${epilogue.label}`;
    let made = this.#families.get(key);
    if (!made) {
      this.declare(`epilogue ${epilogue.label}`, () => epilogueSources(epilogue));
      made = MatmulFamily.create((each) => this.matmul({ ...family, ...form, columns: each }, epilogue), columns);
      this.#families.set(key, made);
    }
    return made;
  }

  /** Counts in the digest, compiled or not: what a tuner may choose among is the same for all, what it chose is not. */
  declare(label: string, code: () => string): string {
    let source = this.#sources.get(label);
    if (source === undefined) {
      source = code();
      this.#sources.set(label, source);
    }
    return source;
  }

  /** Bind group layout of a matrix kernel; the number of columns does not matter for it. */
  matmulLayout(
    { kind, weights, x }: Pick<MatmulVariant, 'kind' | 'weights' | 'x'>,
    { bindings }: Epilogue = STORE,
  ): GPUBindGroupLayout {
    const key = `${weights} ${hasScales(kind)} ${x} ${JSON.stringify(bindings)}`;
    let layout = this.#matmulLayouts.get(key);
    if (!layout) {
      const visibility = GPUShaderStage.COMPUTE;
      const windows = weights === 'storage' ? 1 : hasScales(kind) ? 10 : 8;
      const type = weights === 'storage' ? 'read-only-storage' : 'uniform';
      const entries: GPUBindGroupLayoutEntry[] = Array.from({ length: windows }, (_, binding) => ({
        binding,
        visibility,
        buffer: { type },
      }));
      const xType = x === 'uniform' ? 'uniform' : 'read-only-storage';
      entries.push(
        { binding: 10, visibility, buffer: { type: xType, hasDynamicOffset: true } },
        { binding: 11, visibility, buffer: { type: 'storage', hasDynamicOffset: true } },
        { binding: 12, visibility, buffer: { type: 'uniform' } },
        ...bindings.map(({ type: own, grouped }, i) => ({
          ...{ binding: EPILOGUE_BINDING + i, visibility },
          buffer: { type: own, hasDynamicOffset: grouped },
        })),
      );
      layout = this.device.createBindGroupLayout({ label: `matmul ${key}`, entries });
      this.#matmulLayouts.set(key, layout);
    }
    return layout;
  }

  /** SHA-256 over every shader declared so far, in order of label. */
  sourceDigest(): string {
    const hash = createHash('sha256');
    for (const label of [...this.#sources.keys()].sort()) hash.update(`${label}\n${this.#sources.get(label)}\n`);
    return hash.digest('hex');
  }

  /** A pipeline for whoever measures or prepares: the digest doesn't know of it. */
  compile(label: string, code: () => string, layout: GPUPipelineLayout | 'auto' = 'auto'): Promise<GPUComputePipeline> {
    let pipeline = this.#pipelines.get(label);
    if (!pipeline) {
      const source = code();
      const module = this.device.createShaderModule({ label, code: source });
      pipeline = this.device.createComputePipelineAsync({ label, layout, compute: { module } }).catch(async (error) => {
        const { messages } = await module.getCompilationInfo();
        const words = messages.map((m) => `${m.lineNum}:${m.linePos} ${m.message}`).join('\n');
        throw new ShaderError(`${label}: ${words || String(error)}`);
      });
      this.#pipelines.set(label, pipeline);
    }
    return pipeline;
  }
}

/** In either way that lanes can exchange in: which of them a form takes is the tuner's. */
const epilogueSources = (epilogue: Epilogue): string =>
  [null, LANE_GROUP as BroadcastLanes].map((subgroup) => epilogue.declarations({ subgroup, lanes: LANE_GROUP })).join();
