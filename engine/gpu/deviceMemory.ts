// All buffers of a device, by watching it make them: so that one can tell how much memory they take, and give it back as a whole
// while the device and what was compiled for it stay. Pipelines and bind group layouts hold none.

export class DeviceMemory {
  readonly #queue: GPUQueue;
  readonly #alive = new Set<GPUBuffer>();
  #bytes = 0;

  /** From now on every buffer of `device` is watched until it is destroyed. */
  constructor(device: GPUDevice) {
    this.#queue = device.queue;
    const create = device.createBuffer.bind(device);
    device.createBuffer = (descriptor) => this.#watched(create(descriptor));
  }

  /** Of buffers that were made and not destroyed. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Destroys all, and resolves when the memory is the system's again. Nothing submitted may still use them. */
  async giveBack(): Promise<void> {
    for (const buffer of this.#alive) buffer.destroy();
    // Dawn frees what was destroyed when it looks whether later work has finished.
    this.#queue.submit([]);
    await this.#queue.onSubmittedWorkDone();
  }

  #watched(buffer: GPUBuffer): GPUBuffer {
    const destroy = buffer.destroy.bind(buffer);
    this.#alive.add(buffer);
    this.#bytes += buffer.size;
    buffer.destroy = () => {
      if (this.#alive.delete(buffer)) this.#bytes -= buffer.size;
      return destroy();
    };
    return buffer;
  }
}
