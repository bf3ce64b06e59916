import { expect, it } from 'vitest';
import { StopSignals } from './stopSignals.ts';

it('a signal that terminal, npm and launcher each deliver is one wish; a later one means: now', () => {
  const signals = new StopSignals();
  expect([1000, 1001, 1040, 2400].map((at) => signals.note(at))).toEqual(['stop', 'same', 'same', 'same']);
  expect(signals.note(3000)).toBe('kill');
});
