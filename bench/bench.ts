// What a scenario of `npm run bench` has to work with: contenders that answer tasks, measured in turn, and the table's form.
import { median, type Row } from './report.ts';

/** What a contender is asked for; figures come back by name. */
export type Task =
  | {
      /** Tokens per second after a context, and the host's share of a step. */ kind: 'decode';
      context: number;
      generate: number;
      streams: number;
    }
  | { /** A prompt's tokens per second, and the time to the first token. */ kind: 'prefill'; tokens: number };

export type Figures = Record<string, number>;

export interface Contender {
  name: string;
  ask(task: Task): Promise<Figures>;
}

export interface Bench {
  hearth: Contender;
  /** llama.cpp on the same adapter, and its code for the processor; null: left out. */
  vulkan: Contender | null;
  cpu: Contender | null;
  /** Environment and flags of the adapter's processes; whether it is a GPU. */
  adapter: { env: NodeJS.ProcessEnv; dawnFlags: string[]; hardware: boolean };
  rounds: number;
  /** Sizes for the smoke test. */
  quick: boolean;
  say: (line: string) => void;
}

export type Scenario = (bench: Bench) => Promise<Row[]>;

/** One thing that is measured against others. */
export interface Turn {
  name: string;
  measure: () => Promise<Figures>;
  /** Rounds that it takes part in at most: llama.cpp's Vulkan backend takes a minute for what others do in seconds. */
  mostRounds?: number;
}

/** Of a contender: see Turn. */
export const mostRoundsOf = (bench: Pick<Bench, 'vulkan' | 'adapter'>, contender: Contender): number =>
  contender === bench.vulkan && !bench.adapter.hardware ? 3 : Number.POSITIVE_INFINITY;

/** Tokens that a decode is timed over: on a GPU more, which takes a tenth of a second to reach its clock. */
export function generatedBy(bench: Pick<Bench, 'vulkan' | 'adapter' | 'quick'>, contender: Contender): number {
  if (bench.quick) return 2;
  if (bench.adapter.hardware) return 256;
  return contender === bench.vulkan ? 8 : 24;
}

/** Medians of each turn's figures. Every second round goes backwards, so that a busy moment of the machine falls on all. */
export async function inTurn(
  { rounds, say }: Pick<Bench, 'rounds' | 'say'>,
  turns: readonly Turn[],
): Promise<Figures[]> {
  const taken: Figures[][] = turns.map(() => []);
  for (let round = 0; round < rounds; round++) {
    const order = [...turns.keys()];
    for (const index of round % 2 ? order.reverse() : order) {
      const { name, measure, mostRounds = rounds } = turns[index]!;
      if (round >= mostRounds) continue;
      const figures = await measure();
      taken[index]!.push(figures);
      say(
        `  round ${round + 1}, ${name}: ${Object.entries(figures)
          .map(([key, value]) => `${key} ${value.toPrecision(4)}`)
          .join(', ')}`,
      );
    }
  }
  return taken.map((each) =>
    Object.fromEntries(Object.keys(each[0] ?? {}).map((key) => [key, median(each.map((figures) => figures[key]!))])),
  );
}

/** Hearth's figure beside those of others, and how many times theirs it is. `aims`: by the other's name. */
export function comparison(
  name: string,
  unit: string,
  own: number,
  others: readonly { name: string; value: number }[],
  aims: Record<string, number>,
): Row[] {
  const rows: Row[] = [{ name, value: own, unit, engine: 'hearth' }];
  for (const other of others) {
    rows.push({ name, value: other.value, unit, engine: other.name });
    rows.push(ratio(`${name} / ${other.name}`, own / other.value, aims[other.name]));
  }
  return rows;
}

export const ratio = (name: string, value: number, aim?: number): Row => ({
  ...{ name, value, unit: '×' },
  ...(aim !== undefined && { aim }),
});
