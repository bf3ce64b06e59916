// The variants of one matrix kernel for 1 to 4 tokens per lane. A start waits for the first and the last only; the others are compiled when a step
// would have been cheaper with them, and that step takes what is there: bits don't depend on it.
import { TOKEN_GROUP } from '../../wgsl/matmul/layout.ts';
import { COLUMN_COSTS, COLUMNS, type Columns, columnsFor } from '../../wgsl/matmul/variant.ts';
import { MARGIN } from '../tuning/fastest.ts';

type Compile = (columns: Columns) => Promise<GPUComputePipeline>;

/** What was measured. */
export interface ColumnFigures {
  /** Cost of a lane's work with 1, 2, 3, 4 columns, in any unit. */
  costs: readonly number[];
  /** Numbers of columns that the self-test dropped. */
  dropped: readonly Columns[];
}

const BY_RULE: ColumnFigures = { costs: COLUMN_COSTS, dropped: [] };

export class MatmulFamily {
  readonly #compile: Compile;
  readonly #costs: readonly number[];
  /** By number of rows, from 1 at index 0: what is the cheapest, and what is of those that are compiled. Looked up for every dispatch. */
  readonly #wanted: readonly Columns[];
  #standing: readonly Columns[] = [];
  readonly #ready: (GPUComputePipeline | null)[] = COLUMNS.map(() => null);
  readonly #asked = new Set<Columns>();

  private constructor(compile: Compile, { costs, dropped }: ColumnFigures) {
    this.#compile = compile;
    this.#costs = costs;
    this.#wanted = this.#cheapest(COLUMNS.map((columns) => !dropped.includes(columns)));
  }

  /** Throws ShaderError. */
  static async create(compile: Compile, figures = BY_RULE): Promise<MatmulFamily> {
    const family = new MatmulFamily(compile, figures);
    const first: Columns[] = figures.dropped.includes(4) ? [1] : [1, 4];
    await Promise.all(first.map((columns) => family.#bring(columns)));
    return family;
  }

  /** The cheapest variant for `rows` tokens, 1 to 16, that is compiled by now. */
  columnsFor(rows: number): Columns {
    const wanted = this.#wanted[rows - 1]!;
    if (this.#ready[wanted - 1]) return wanted;
    // One that the driver refuses is done without.
    if (!this.#asked.has(wanted)) this.#bring(wanted).catch(() => {});
    return this.#standing[rows - 1]!;
  }

  /** The same for any number of rows in one dispatch. Three don't divide a group, and would write beyond the last one. */
  columnsForAll(rows: number): Columns {
    const columns = this.columnsFor(Math.min(rows, TOKEN_GROUP));
    if (rows <= TOKEN_GROUP || TOKEN_GROUP % columns === 0) return columns;
    return this.#ready[3] ? 4 : 1;
  }

  pipeline(columns: Columns): GPUComputePipeline {
    return this.#ready[columns - 1] as GPUComputePipeline;
  }

  async #bring(columns: Columns): Promise<void> {
    this.#asked.add(columns);
    this.#ready[columns - 1] = await this.#compile(columns);
    this.#standing = this.#cheapest(this.#ready);
  }

  #cheapest(usable: readonly unknown[]): Columns[] {
    return Array.from({ length: TOKEN_GROUP }, (_, i) => cheapestColumns(i + 1, usable, this.#costs));
  }
}

/** The rule's number of columns, unless another is cheaper by more than the margin. */
export function cheapestColumns(rows: number, usable: readonly unknown[], costs: readonly number[]): Columns {
  const total = (columns: Columns): number => Math.ceil(rows / columns) * costs[columns - 1]!;
  const rule = columnsFor(rows, usable);
  const best = columnsFor(rows, usable, costs);
  return total(best) < total(rule) * (1 - MARGIN) ? best : rule;
}
