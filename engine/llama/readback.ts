// Brings a step's answers to the host: one of a few buffers in turn, so that a step can be submitted while the one before it is read.
import { RESULT_WORDS } from '../../wgsl/sample/row.ts';

export interface ReadbackSource {
  /** [maxRows, RESULT_WORDS]. */
  results: GPUBuffer;
  /** [maxRows, logitsStride] f32. */
  logits: GPUBuffer;
  logitsStride: number;
  vocabSize: number;
  maxRows: number;
}

export class Readback {
  readonly #device: GPUDevice;
  readonly #source: ReadbackSource;
  readonly #results: GPUBuffer;
  /** Most steps want no logits: their buffers are made for the first that does. */
  #logits: GPUBuffer | null = null;
  #hostLogits = new Float32Array(0);
  readonly #words: Uint32Array;
  #rows = 0;
  #raw = false;

  constructor(device: GPUDevice, source: ReadbackSource) {
    this.#device = device;
    this.#source = source;
    this.#words = new Uint32Array(source.maxRows * RESULT_WORDS);
    this.#results = this.#buffer('results', this.#words.byteLength);
  }

  /** At the end of a step's commands. `raw`: its rows' logits are wanted, too. */
  encode(encoder: GPUCommandEncoder, rows: number, raw: boolean): void {
    const { results, logits, logitsStride, vocabSize, maxRows } = this.#source;
    this.#rows = rows;
    this.#raw = raw && rows > 0;
    if (rows > 0) encoder.copyBufferToBuffer(results, 0, this.#results, 0, rows * RESULT_WORDS * 4);
    if (!this.#raw) return;
    this.#logits ??= this.#buffer('logits', logits.size);
    if (this.#hostLogits.length === 0) this.#hostLogits = new Float32Array(maxRows * vocabSize);
    encoder.copyBufferToBuffer(logits, 0, this.#logits, 0, rows * logitsStride * 4);
  }

  /** When the step has finished: [rows, RESULT_WORDS], and [rows, vocabSize] or nothing. Valid until the next `encode`. */
  async read(): Promise<{ results: Uint32Array; logits: Float32Array }> {
    const rows = this.#rows;
    const logits = this.#raw ? this.#logits : null;
    if (rows === 0) await this.#device.queue.onSubmittedWorkDone();
    else
      await Promise.all([this.#results, ...(logits ? [logits] : [])].map((buffer) => buffer.mapAsync(GPUMapMode.READ)));
    if (rows > 0) {
      this.#words.set(new Uint32Array(this.#results.getMappedRange()));
      this.#results.unmap();
    }
    if (logits) {
      const { logitsStride, vocabSize } = this.#source;
      const mapped = new Float32Array(logits.getMappedRange());
      for (let row = 0; row < rows; row++)
        this.#hostLogits.set(mapped.subarray(row * logitsStride, row * logitsStride + vocabSize), row * vocabSize);
      logits.unmap();
    }
    const { vocabSize } = this.#source;
    return { results: this.#words, logits: this.#hostLogits.subarray(0, logits ? rows * vocabSize : 0) };
  }

  #buffer(label: string, size: number): GPUBuffer {
    const usage = GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ;
    return this.#device.createBuffer({ label: `${label} read-back`, size, usage });
  }
}
