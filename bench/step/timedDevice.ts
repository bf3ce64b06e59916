// A device whose dispatches are timed on the GPU, each in a pass of its own with a timestamp at both ends. Its passes look like the plain ones to
// whoever encodes them. What lies between two dispatches of one pass is in no figure: a step takes longer or shorter than their sum.
import { invariant } from '../../engine/invariant.ts';

/** Dispatches of an encoder, at most: a query set holds 4,096 timestamps. */
const MOST = 2048;

export interface Dispatched {
  /** Of its pipeline. */
  label: string;
  seconds: number;
}

export class TimedDevice {
  readonly #device: GPUDevice;
  readonly #queries: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  readonly #mapped: GPUBuffer;
  /** Of the encoder that was finished last. */
  #labels: string[] = [];

  /** From here on every compute pass of the device is timed; `device` was opened with timestamps. */
  constructor(device: GPUDevice) {
    this.#device = device;
    const { QUERY_RESOLVE, COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage;
    const size = MOST * 16;
    this.#queries = device.createQuerySet({ type: 'timestamp', count: MOST * 2 });
    this.#resolved = device.createBuffer({ label: 'timestamps', size, usage: QUERY_RESOLVE | COPY_SRC });
    this.#mapped = device.createBuffer({ label: 'timestamps, read', size, usage: MAP_READ | COPY_DST });
    const create = device.createCommandEncoder.bind(device);
    device.createCommandEncoder = (descriptor) => this.#timed(create(descriptor));
  }

  /** Dispatches of the commands that were encoded last, which the device has finished. */
  async read(): Promise<Dispatched[]> {
    const encoder = this.#device.createCommandEncoder();
    encoder.resolveQuerySet(this.#queries, 0, this.#labels.length * 2, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, this.#mapped, 0, this.#labels.length * 16);
    this.#device.queue.submit([encoder.finish()]);
    await this.#mapped.mapAsync(GPUMapMode.READ);
    const ticks = new BigUint64Array(this.#mapped.getMappedRange(0, this.#labels.length * 16));
    const dispatched = this.#labels.map((label, i) => ({
      label,
      seconds: Number(ticks[2 * i + 1]! - ticks[2 * i]!) / 1e9,
    }));
    this.#mapped.unmap();
    return dispatched;
  }

  #timed(encoder: GPUCommandEncoder): GPUCommandEncoder {
    const begin = encoder.beginComputePass.bind(encoder);
    const labels: string[] = [];
    encoder.beginComputePass = () => {
      this.#labels = labels;
      return new TimedPass(begin, this.#queries, labels) as unknown as GPUComputePassEncoder;
    };
    return encoder;
  }
}

/** As much of GPUComputePassEncoder as the engine uses. */
class TimedPass {
  readonly #begin: (descriptor: GPUComputePassDescriptor) => GPUComputePassEncoder;
  readonly #queries: GPUQuerySet;
  readonly #labels: string[];
  #pipeline: GPUComputePipeline | null = null;
  #bound: [index: number, group: GPUBindGroup, offsets: number[]] | null = null;

  constructor(
    begin: (descriptor: GPUComputePassDescriptor) => GPUComputePassEncoder,
    queries: GPUQuerySet,
    labels: string[],
  ) {
    this.#begin = begin;
    this.#queries = queries;
    this.#labels = labels;
  }

  setPipeline(pipeline: GPUComputePipeline): void {
    this.#pipeline = pipeline;
  }

  setBindGroup(index: number, group: GPUBindGroup, offsets: readonly number[] = []): void {
    this.#bound = [index, group, [...offsets]];
  }

  dispatchWorkgroups(x: number, y = 1, z = 1): void {
    invariant(
      this.#pipeline && this.#bound && this.#labels.length < MOST,
      'a dispatch has a pipeline and a bind group',
    );
    const at = 2 * this.#labels.push(this.#pipeline.label) - 2;
    const timestampWrites = {
      querySet: this.#queries,
      beginningOfPassWriteIndex: at,
      endOfPassWriteIndex: at + 1,
    };
    const pass = this.#begin({ timestampWrites });
    pass.setPipeline(this.#pipeline);
    pass.setBindGroup(...this.#bound);
    pass.dispatchWorkgroups(x, y, z);
    pass.end();
  }

  end(): void {}
}
