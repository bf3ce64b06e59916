// The buffers of one problem, of a self-test or a bench: made one by one, destroyed together.

export class ProblemBuffers {
  readonly #device: GPUDevice;
  readonly #purpose: string;
  readonly #made: GPUBuffer[] = [];

  /** `purpose` is in front of the labels. */
  constructor(device: GPUDevice, purpose = 'tuning') {
    this.#device = device;
    this.#purpose = purpose;
  }

  /** Zeros. Storage, uniform, and to be copied from. */
  empty(label: string, size: number): GPUBuffer {
    const { STORAGE, UNIFORM, COPY_SRC, COPY_DST } = GPUBufferUsage;
    const usage = STORAGE | UNIFORM | COPY_SRC | COPY_DST;
    const buffer = this.#device.createBuffer({ label: `${this.#purpose}: ${label}`, size: Math.max(32, size), usage });
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
