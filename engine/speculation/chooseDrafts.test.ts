// How many drafts a step takes on, by table: the model of cost and chance in, the number out.
import { describe, expect, it } from 'vitest';
import { chooseDrafts, type DraftOffer, MIN_GAIN, type StepShape } from './chooseDrafts.ts';

const offer = (...chances: number[]): DraftOffer => ({ count: chances.length, chances: Float64Array.from(chances) });
const sure = (count: number, chance = 0.95): DraftOffer => offer(...Array.from({ length: count }, () => chance));
const shape = (decodes: number, over: Partial<StepShape> = {}): StepShape => ({
  ...{ tokens: decodes, rows: decodes, otherMs: 0, most: 16 - decodes },
  ...over,
});

/** A GPU that waits for its weights: a row more costs next to nothing. */
const bandwidthBound = (rows: number): number => 10 + 0.1 * rows;
/** SmolLM2-135M on two cores: groups of four rows, the first the dearest. */
const software = (rows: number): number =>
  [0, 20, 27, 31, 34, 51, 55, 58, 62, 78, 82, 86, 89, 105, 109, 112, 115][rows]!;
/** Each row costs what the first does. */
const computeBound = (rows: number): number => 10 * rows;

describe('the drafts of a step', () => {
  it.each([
    ['sure guesses where rows are cheap: all', [sure(8)], shape(1), bandwidthBound, [8]],
    ['sure guesses on software: whole groups of rows', [sure(8, 0.99)], shape(1), software, [7]],
    ['likely guesses on software: fewer', [sure(8, 0.8)], shape(1), software, [3]],
    ['doubtful guesses on software: none', [sure(8, 0.3)], shape(1), software, [0]],
    ['doubtful guesses where rows are cheap: while they add something', [sure(8, 0.3)], shape(1), bandwidthBound, [3]],
    ['sure guesses where rows cost what they bring: none', [sure(8, 1)], shape(1), computeBound, [0]],
    [
      'in company on software, each row costs a decode: none',
      [sure(8, 0.9), sure(8, 0.9)],
      shape(12),
      software,
      [0, 0],
    ],
    [
      'in company where rows are cheap: the likeliest first',
      [sure(2, 0.5), sure(8, 0.9)],
      shape(12),
      bandwidthBound,
      [0, 4],
    ],
    ['no row left: none', [sure(8)], shape(16), bandwidthBound, [0]],
    [
      'beside a prompt that fills the time, a draft is one token of many',
      [sure(8, 0.5)],
      shape(1, { tokens: 49, otherMs: 300 }),
      software,
      [0],
    ],
    ['nothing offered', [], shape(3), software, []],
  ] as const)('%s', (_, offers, step, ms, expected) => {
    expect(chooseDrafts([...offers], step, ms)).toEqual(expected);
  });

  it('are the best number there is, whatever the costs and chances', () => {
    let seed = 1;
    const random = (): number => {
      seed = (seed * 48271) % 2147483647;
      return seed / 2147483647;
    };
    let some = 0;
    for (let run = 0; run < 300; run++) {
      const times = Array.from({ length: 20 }, random).sort((a, b) => a - b);
      const ms = (rows: number): number => 1 + times[rows]! * 3;
      const offers = [sure(4, random()), sure(3, random())];
      const rate = (a: number, b: number): number => {
        const reach = (chance: number, count: number): number =>
          Array.from({ length: count }, (_, i) => chance ** (i + 1)).reduce((sum, one) => sum + one, 0);
        const [x, y] = offers.map(({ chances }) => chances[0]!) as [number, number];
        return (2 + reach(x, a) + reach(y, b)) / ms(2 + a + b);
      };
      let best = rate(0, 0) * MIN_GAIN;
      for (let a = 0; a <= 4; a++) for (let b = 0; b <= 3; b++) best = Math.max(best, rate(a, b));
      const [a, b] = chooseDrafts(offers, shape(2), ms) as [number, number];
      if (a + b > 0) some += 1;
      const chosen = a + b > 0 ? rate(a, b) : rate(0, 0) * MIN_GAIN;
      expect(chosen, `run ${run}`).toBeCloseTo(best, 9);
    }
    expect(some).toBeGreaterThan(50);
  });
});
