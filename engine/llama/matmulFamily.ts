// The variants of one matrix kernel for 1 to 4 tokens per lane. A start waits for the first and the last only; the others are compiled when a step
// would have been cheaper with them, and that step takes what is there: bits don't depend on it.
import { COLUMNS, type Columns, columnsFor } from '../../wgsl/matmul/variant.ts';

type Compile = (columns: Columns) => Promise<GPUComputePipeline>;

export class MatmulFamily {
  readonly #compile: Compile;
  readonly #ready: (GPUComputePipeline | null)[] = COLUMNS.map(() => null);
  readonly #asked = new Set<Columns>();

  private constructor(compile: Compile) {
    this.#compile = compile;
  }

  /** Throws ShaderError. */
  static async create(compile: Compile): Promise<MatmulFamily> {
    const family = new MatmulFamily(compile);
    await Promise.all([family.#bring(1), family.#bring(4)]);
    return family;
  }

  /** The cheapest variant for `rows` tokens that is compiled by now. */
  columnsFor(rows: number): Columns {
    const wanted = columnsFor(rows);
    if (this.#ready[wanted - 1]) return wanted;
    // One that the driver refuses is done without.
    if (!this.#asked.has(wanted)) this.#bring(wanted).catch(() => {});
    return columnsFor(rows, this.#ready);
  }

  pipeline(columns: Columns): GPUComputePipeline {
    return this.#ready[columns - 1] as GPUComputePipeline;
  }

  async #bring(columns: Columns): Promise<void> {
    this.#asked.add(columns);
    this.#ready[columns - 1] = await this.#compile(columns);
  }
}
