// Does a figure grow? A straight line through its second half (least squares), and how sure that line is. Pure: samples in, words out.
//
//   leak:  slope − 2 standard errors > bound      so noise alone accuses nobody, and a longer soak finds smaller leaks
import type { Vitals } from './watch.ts';

export interface Sample {
  atMs: number;
  vitals: Vitals;
}

export type Figure = 'anonBytes' | 'liveBytes' | 'fds' | 'resources';

/** That each may grow in an hour. Live bytes: 20 MB are 50 bytes a request at 100 requests a second. */
export const MOST_PER_HOUR: Record<Figure, number> = { anonBytes: 80e6, liveBytes: 20e6, fds: 60, resources: 60 };

export const FIGURES: readonly Figure[] = ['anonBytes', 'liveBytes', 'fds', 'resources'];

/** A line through fewer points says nothing. */
const LEAST_SAMPLES = 8;

export interface Slope {
  first: number;
  last: number;
  perHour: number;
  standardError: number;
  leaks: boolean;
}

/** Of the samples from `sinceMs` on; null: there are too few. */
export function slopeOf(samples: readonly Sample[], figure: Figure, sinceMs: number): Slope | null {
  const late = samples.filter(({ atMs }) => atMs >= sinceMs);
  const [first, last] = [late[0], late.at(-1)];
  if (!first || !last || late.length < LEAST_SAMPLES) return null;
  const points = late.map(({ atMs, vitals }) => ({ x: (atMs - first.atMs) / 3_600_000, y: vitals[figure] }));
  const mean = (of: (point: (typeof points)[number]) => number) =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length;
  const [meanX, meanY] = [mean(({ x }) => x), mean(({ y }) => y)];
  const spread = mean(({ x }) => (x - meanX) ** 2);
  const perHour = mean(({ x, y }) => (x - meanX) * (y - meanY)) / spread;
  const rest = mean(({ x, y }) => (y - meanY - perHour * (x - meanX)) ** 2);
  const standardError = Math.sqrt(rest / spread / (points.length - 2));
  const leaks = perHour - 2 * standardError > MOST_PER_HOUR[figure];
  return { first: first.vitals[figure], last: last.vitals[figure], perHour, standardError, leaks };
}
