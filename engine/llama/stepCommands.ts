// The commands of a step, encoded before they are wanted: which dispatches a step has, and how large, follows from a few counts, and a decode
// step mostly has those of the one before it. What it computes on stands in its metadata. So while a step runs its like is encoded, and the
// next one waits for its submission alone.
import { encode, type StepCounts } from './dispatch.ts';
import type { Graph } from './graph.ts';

/** What the commands of a step depend on. */
export interface StepShape {
  rows: Readonly<StepCounts>;
  /** Of its rows' wishes, all together (wgsl/sample/row.ts). */
  flags: number;
  /** Whether a token stands in a slot. */
  slotTokens: boolean;
}

const keyOf = ({ rows, flags, slotTokens }: StepShape): string =>
  [rows.tokens, rows.wanted, rows.queryTiles, rows.singleQueries, rows.splits, flags, slotTokens].join(' ');

export class StepCommands {
  readonly #device: GPUDevice;
  readonly #graph: Pick<Graph, 'dispatches' | 'resolve' | 'sampling'>;
  /** A command buffer can be submitted once. */
  #ahead: { key: string; commands: GPUCommandBuffer } | null = null;
  #lastKey = '';

  constructor(device: GPUDevice, graph: Pick<Graph, 'dispatches' | 'resolve' | 'sampling'>) {
    this.#device = device;
    this.#graph = graph;
  }

  /** For a step of that shape, to be submitted at once. `repeats`: the one before had the same, and so may the next. */
  take(shape: StepShape): { commands: GPUCommandBuffer; repeats: boolean } {
    const key = keyOf(shape);
    const repeats = key === this.#lastKey;
    const ahead = this.#ahead;
    this.#lastKey = key;
    this.#ahead = null;
    return { commands: ahead?.key === key ? ahead.commands : this.#encode(shape), repeats };
  }

  /** Encodes the next step, in case that it has this shape. */
  prepare(shape: StepShape): void {
    const key = keyOf(shape);
    if (this.#ahead?.key !== key) this.#ahead = { key, commands: this.#encode(shape) };
  }

  #encode({ rows, flags, slotTokens }: StepShape): GPUCommandBuffer {
    const encoder = this.#device.createCommandEncoder({ label: 'step' });
    const pass = encoder.beginComputePass({ label: 'step' });
    if (slotTokens) encode(pass, this.#graph.resolve, rows);
    encode(pass, this.#graph.dispatches, rows);
    this.#graph.sampling.encode(pass, rows.wanted, flags);
    pass.end();
    return encoder.finish();
  }
}
