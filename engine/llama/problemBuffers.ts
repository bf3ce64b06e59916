// The buffers of one self-test problem: made one by one, destroyed together.

export class ProblemBuffers {
  readonly #device: GPUDevice;
  readonly #made: GPUBuffer[] = [];

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** Zeros. Storage, uniform, and to be copied from. */
  empty(label: string, size: number): GPUBuffer {
    const { STORAGE, UNIFORM, COPY_SRC, COPY_DST } = GPUBufferUsage;
    const usage = STORAGE | UNIFORM | COPY_SRC | COPY_DST;
    const buffer = this.#device.createBuffer({ label: `tuning: ${label}`, size: Math.max(32, size), usage });
    this.#made.push(buffer);
    return buffer;
  }

  filled(label: string, data: Uint32Array<ArrayBuffer> | Float32Array<ArrayBuffer>): GPUBuffer {
    const buffer = this.empty(label, data.byteLength);
    this.#device.queue.writeBuffer(buffer, 0, data);
    return buffer;
  }

  destroy(): void {
    for (const buffer of this.#made) buffer.destroy();
  }
}
