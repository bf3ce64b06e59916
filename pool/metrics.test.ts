import { describe, expect, it } from 'vitest';
import { Counter, Histogram } from './metrics.ts';

describe('metrics', () => {
  it('keep their series bounded, whatever labels come', () => {
    const counter = new Counter('c', 'help', 'code', ['known']);
    for (let i = 0; i < 1000; i++) counter.add(1, `made-up-${i}`);
    counter.add(2, 'known');
    expect(counter.lines()).toEqual(['# HELP c help', '# TYPE c counter', 'c{code="known"} 2', 'c{code="other"} 1000']);
  });

  it('count a value in its bucket and in all above, as Prometheus expects', () => {
    const histogram = new Histogram('h', 'help', [1, 2]);
    for (const value of [1, 1.5, 9]) histogram.observe(value);
    expect(histogram.lines().slice(2)).toEqual([
      'h_bucket{le="1"} 1',
      'h_bucket{le="2"} 2',
      'h_bucket{le="+Inf"} 3',
      'h_sum 11.5',
      'h_count 3',
    ]);
  });
});
