import { expect, it } from 'vitest';
import { costRows } from './cost.ts';

it('a million tokens cost the hour of the machine, divided by what it makes in it', () => {
  const rows = [
    { name: 'decode', value: 1000, unit: 'tok/s', engine: 'hearth', context: 256, aim: 2 },
    { name: 'decode / llama.cpp cpu', value: 0.5, unit: '×' },
    { name: 'prefill', value: 0, unit: 'tok/s' },
  ];
  // 3.6 million tokens in an hour that costs 7.20.
  expect(costRows(rows, { perHour: 7.2, currency: 'EUR' })).toEqual([
    { name: 'decode: cost per million tokens', value: 2, unit: 'EUR', engine: 'hearth', context: 256 },
  ]);
});
