// Brings weights from the file to the GPU in pieces: each is read, repacked and written while the next one is read, in the order of the
// file. On the host there are never more than two pieces as they stand in the file, one packed, and what the queue still holds; all are bounded.
import { LANE_GROUP, laneBytes, type MatrixLayout, pieceLayout, ROWS_PER_LANE } from '../../wgsl/matmul/layout.ts';
import { INTERLEAVED, packRows, type Spread, STACKED, sourceRowBytes } from '../../wgsl/matmul/pack.ts';
import { invariant } from '../invariant.ts';
import type { ModelFile, TensorInfo } from '../model/types.ts';
import type { HeldWeights } from './heldWeights.ts';
import { allocateMatrix, type Matrix, type MatrixOptions } from './matrix.ts';

/** Packed bytes of a piece, unless a single group of lanes has more. A tile of uniform windows has at most 640 KiB and is one piece. */
const PIECE_BYTES = 2 ** 20;
/** Bytes that the queue may hold before they are waited for: its copies of what was written. */
const IN_FLIGHT_BYTES = 8 * 2 ** 20;

/** Rows of one tensor, as they follow each other in it and in the matrix. */
interface Source {
  tensor: TensorInfo;
  /** Bytes from the tensor's start, and in all. */
  offset: number;
  byteLength: number;
  /** First of its rows in the piece, of those that `spread` leaves it, and how many. */
  row: number;
  rows: number;
  spread: Spread;
}

interface Piece {
  sources: Source[];
  byteLength: number;
  /** Writes the bytes of all sources, one after another, to the GPU; how many it wrote. */
  write(bytes: Uint8Array): number;
}

export class WeightStream {
  /** Allocated so far, in order. */
  readonly buffers: GPUBuffer[] = [];
  readonly #device: GPUDevice;
  readonly #file: ModelFile;
  readonly #options: MatrixOptions;
  readonly #pieces: Piece[] = [];
  #staging = new Uint32Array(0);

  constructor(device: GPUDevice, file: ModelFile, options: MatrixOptions) {
    this.#device = device;
    this.#file = file;
    this.#options = options;
  }

  /** Allocates a matrix of `tensors` (equal kind and cols), one under another, or two of equal rows interleaved; `run` or `restore` fills it. */
  matrix(tensors: readonly TensorInfo[], interleaved = false): Matrix {
    invariant(!interleaved || (tensors.length === 2 && tensors[0]!.rows === tensors[1]!.rows), 'two alike interleave');
    const matrix = allocateMatrix(this.#device, tensors, this.#options);
    const { layout, parts } = matrix;
    this.buffers.push(...parts.map(({ buffer }) => buffer));
    const lane = laneBytes(layout.kind, layout.blocks);
    const perLane = ROWS_PER_LANE * lane.quants + 2 * lane.scales;
    const most = Math.max(LANE_GROUP, Math.floor(PIECE_BYTES / perLane / LANE_GROUP) * LANE_GROUP);
    for (const { buffer, firstTile, tiles } of parts)
      for (let tile = firstTile; tile < firstTile + tiles; tile++)
        for (let firstLane = 0; firstLane < layout.lanes; firstLane += most) {
          const lanes = Math.min(most, layout.lanes - firstLane);
          const begin = tile * layout.lanes + firstLane;
          const sources = interleaved
            ? INTERLEAVED.flatMap((spread, i) => sourcesOf([tensors[i]!], layout, begin, lanes, spread))
            : sourcesOf(tensors, layout, begin, lanes, STACKED);
          const at = (tile - firstTile) * layout.tileBytes;
          this.#add(sources, (bytes) => this.#writeLanes(bytes, sources, layout, buffer, at, firstLane, lanes));
        }
    return matrix;
  }

  /** Allocates a buffer for the tensor's bytes as they are. */
  vector(tensor: TensorInfo): GPUBuffer {
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
    const buffer = this.#device.createBuffer({ label: tensor.name, size: tensor.byteLength, usage });
    this.buffers.push(buffer);
    const whole = { tensor, offset: 0, byteLength: tensor.byteLength, row: 0, rows: 1, spread: STACKED };
    this.#add([whole], (bytes) => {
      this.#device.queue.writeBuffer(buffer, 0, Uint8Array.from(bytes));
      return bytes.byteLength;
    });
    return buffer;
  }

  /** Fills everything allocated so far, in the order of the file. Throws ModelFileError. */
  async run(onProgress: (doneBytes: number, totalBytes: number) => void): Promise<void> {
    const place = ({ sources: [first] }: Piece): number => (first ? first.tensor.offset + first.offset : 0);
    const pieces = this.#pieces.splice(0).sort((a, b) => place(a) - place(b));
    const total = pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
    const largest = pieces.reduce((most, piece) => Math.max(most, piece.byteLength), 0);
    const buffers = [new Uint8Array(largest), new Uint8Array(largest)] as const;
    const read = async (index: number): Promise<Uint8Array> => {
      const piece = pieces[index];
      const bytes = buffers[index & 1 ? 1 : 0].subarray(0, piece?.byteLength ?? 0);
      let at = 0;
      for (const { tensor, offset, byteLength } of piece?.sources ?? []) {
        await this.#file.read(tensor, offset, bytes.subarray(at, at + byteLength));
        at += byteLength;
      }
      return bytes;
    };
    let ahead = read(0);
    let done = 0;
    let inFlight = 0;
    for (const [index, piece] of pieces.entries()) {
      const bytes = await ahead;
      ahead = read(index + 1);
      // Awaited in the next round; should this one fail before that, its own failure is the one to tell.
      ahead.catch(() => {});
      inFlight += piece.write(bytes);
      done += piece.byteLength;
      if (inFlight >= IN_FLIGHT_BYTES) {
        await this.#device.queue.onSubmittedWorkDone();
        inFlight = 0;
      }
      onProgress(done, total);
    }
    this.#staging = new Uint32Array(0);
    await this.#device.queue.onSubmittedWorkDone();
  }

  /** Fills everything allocated so far with what the same allocations held before. */
  async restore(held: HeldWeights): Promise<void> {
    invariant(held.length === this.buffers.length, 'held weights are of this model', { held: held.length });
    let inFlight = 0;
    for (const [i, buffer] of this.buffers.entries()) {
      this.#device.queue.writeBuffer(buffer, 0, held[i]!);
      inFlight += buffer.size;
      if (inFlight < IN_FLIGHT_BYTES) continue;
      await this.#device.queue.onSubmittedWorkDone();
      inFlight = 0;
    }
    await this.#device.queue.onSubmittedWorkDone();
  }

  #add(sources: Source[], write: (bytes: Uint8Array) => number): void {
    const byteLength = sources.reduce((sum, source) => sum + source.byteLength, 0);
    if (byteLength > 0) this.#pieces.push({ sources, byteLength, write });
  }

  /** Packs `lanes` lanes of a tile that begins at byte `at` of the buffer, and writes them where they belong in each of its windows. */
  #writeLanes(
    bytes: Uint8Array,
    sources: readonly Source[],
    layout: MatrixLayout,
    buffer: GPUBuffer,
    at: number,
    firstLane: number,
    lanes: number,
  ): number {
    const { queue } = this.#device;
    const piece = pieceLayout(layout, lanes);
    const words = piece.tileBytes / 4;
    if (this.#staging.length < words) this.#staging = new Uint32Array(words);
    let rows = 0;
    let from = 0;
    for (const source of sources) rows += source.rows;
    if (rows < lanes * ROWS_PER_LANE) this.#staging.fill(0);
    for (const { tensor, byteLength, row, rows: count, spread } of sources) {
      packRows(piece, tensor.type, bytes.subarray(from, from + byteLength), row, count, this.#staging, spread);
      from += byteLength;
    }
    if (lanes === layout.lanes) {
      queue.writeBuffer(buffer, at, this.#staging, 0, words);
      return piece.tileBytes;
    }
    const lane = laneBytes(layout.kind, layout.blocks);
    const copy = (target: number, source: number, perLane: number): void => {
      if (perLane > 0)
        queue.writeBuffer(buffer, at + target + firstLane * perLane, this.#staging, source / 4, (lanes * perLane) / 4);
    };
    for (let window = 0; window < ROWS_PER_LANE; window++)
      copy(window * layout.windowBytes, window * piece.windowBytes, lane.quants);
    for (let half = 0; half < 2; half++)
      copy(
        ROWS_PER_LANE * layout.windowBytes + half * layout.scaleBytes,
        ROWS_PER_LANE * piece.windowBytes + half * piece.scaleBytes,
        lane.scales,
      );
    return piece.tileBytes;
  }
}

/** What `lanes` lanes of a matrix from `firstLane` on take of `tensors`, which lie one under another in their share of each lane. */
function sourcesOf(
  tensors: readonly TensorInfo[],
  layout: MatrixLayout,
  firstLane: number,
  lanes: number,
  spread: Spread,
): Source[] {
  const begin = firstLane * spread.perLane;
  const end = begin + lanes * spread.perLane;
  const sources: Source[] = [];
  let tensorRow = 0;
  for (const tensor of tensors) {
    const from = Math.max(begin, tensorRow);
    const to = Math.min(end, tensorRow + tensor.rows);
    if (from < to) {
      const rowBytes = sourceRowBytes(layout, tensor.type);
      const rows = to - from;
      const offset = (from - tensorRow) * rowBytes;
      sources.push({ tensor, offset, byteLength: rows * rowBytes, row: from - begin, rows, spread });
    }
    tensorRow += tensor.rows;
  }
  return sources;
}
