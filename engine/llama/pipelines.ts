// Compiles each shader once per device, by its label. Bind group layouts are derived from the shader, except for matrix kernels, whose
// activations and result move by dynamic offsets.
import { createHash } from 'node:crypto';
import { hasScales } from '../../wgsl/matmul/layout.ts';
import { matmulShader } from '../../wgsl/matmul/shader.ts';
import { COLUMNS, type MatmulVariant, variantLabel } from '../../wgsl/matmul/variant.ts';
import { MatmulFamily } from './matmulFamily.ts';

/** A shader that the driver or the WGSL compiler refused: our bug or the driver's. Carries the compiler's words. */
export class ShaderError extends Error {
  override readonly name = 'ShaderError';
  readonly code = 'shader_refused';
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

  /** A pipeline; its layout is derived from the shader where none is given. */
  get(label: string, code: () => string, layout: GPUPipelineLayout | 'auto' = 'auto'): Promise<GPUComputePipeline> {
    return this.#compile(label, code, layout);
  }

  matmul(variant: MatmulVariant): Promise<GPUComputePipeline> {
    const layout = this.device.createPipelineLayout({ bindGroupLayouts: [this.matmulLayout(variant)] });
    return this.#compile(variantLabel(variant), () => matmulShader(variant), layout);
  }

  /** The variants of this one for all numbers of columns. The sources of all count in the digest, compiled or not. */
  matmulFamily(variant: MatmulVariant): Promise<MatmulFamily> {
    const key = variantLabel({ ...variant, columns: 1 });
    let family = this.#families.get(key);
    if (!family) {
      for (const columns of COLUMNS) {
        const each = { ...variant, columns };
        this.#sources.set(variantLabel(each), matmulShader(each));
      }
      family = MatmulFamily.create((columns) => this.matmul({ ...variant, columns }));
      this.#families.set(key, family);
    }
    return family;
  }

  /** Bind group layout of a matrix kernel; the number of columns does not matter for it. */
  matmulLayout({ kind, weights, x }: MatmulVariant): GPUBindGroupLayout {
    const key = `${weights} ${hasScales(kind)} ${x}`;
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
      );
      layout = this.device.createBindGroupLayout({ label: `matmul ${key}`, entries });
      this.#matmulLayouts.set(key, layout);
    }
    return layout;
  }

  /** SHA-256 over every shader asked for so far, in order of label. */
  sourceDigest(): string {
    const hash = createHash('sha256');
    for (const label of [...this.#sources.keys()].sort()) hash.update(`${label}\n${this.#sources.get(label)}\n`);
    return hash.digest('hex');
  }

  #compile(label: string, code: () => string, layout: GPUPipelineLayout | 'auto'): Promise<GPUComputePipeline> {
    let pipeline = this.#pipelines.get(label);
    if (!pipeline) {
      const source = code();
      this.#sources.set(label, source);
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
