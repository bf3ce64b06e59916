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
      return timedPass(begin, this.#queries, labels);
    };
    return encoder;
  }
}

/** As much of a pass as the engine uses. */
function timedPass(
  begin: (descriptor: GPUComputePassDescriptor) => GPUComputePassEncoder,
  querySet: GPUQuerySet,
  labels: string[],
): GPUComputePassEncoder {
  let pipeline: GPUComputePipeline | null = null;
  let bound: [index: number, group: GPUBindGroup, offsets: number[]] | null = null;
  const used: Pick<GPUComputePassEncoder, 'setPipeline' | 'dispatchWorkgroups' | 'end'> = {
    setPipeline(given) {
      pipeline = given;
    },
    dispatchWorkgroups(x, y = 1, z = 1) {
      invariant(
        pipeline && bound && labels.length < MOST,
        'a dispatch has a pipeline, a bind group and two timestamps',
      );
      const at = 2 * labels.push(pipeline.label) - 2;
      const pass = begin({ timestampWrites: { querySet, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1 } });
      pass.setPipeline(pipeline);
      pass.setBindGroup(...bound);
      pass.dispatchWorkgroups(x, y, z);
      pass.end();
    },
    end() {},
  };
  const setBindGroup = (index: number, group: GPUBindGroup, offsets: readonly number[] = []): void => {
    // The engine uses one list of offsets again and again.
    bound = [index, group, [...offsets]];
  };
  return Object.assign(Object.create(null), used, { setBindGroup });
}
