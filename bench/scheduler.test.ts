import { expect, test } from 'vitest';
import { ISSUE_LOAD, measureScheduler, schedulerRows } from './cache/scheduler.ts';

test('measures every step’s plan and settlement, in rows that plots are drawn from', () => {
  const load = { running: 4, waiting: 10, tenants: 3, promptTokens: 64, outputTokens: 8 };
  const { planUs, settleUs } = measureScheduler(load, 30);
  expect([planUs.length, settleUs.length]).toEqual([30, 30]);
  for (const value of [...planUs, ...settleUs]) expect(value).toBeGreaterThan(0);
  const rows = schedulerRows(load, 20);
  expect(rows.map(({ name, statistic }) => `${name} ${statistic}`)).toContain('scheduler_step p99');
  for (const { value, unit } of rows) expect([Number.isFinite(value), unit]).toEqual([true, 'µs']);
});

test('a step of 64 running and 1,000 waiting costs the host less than half a millisecond', () => {
  const { planUs, settleUs } = measureScheduler(ISSUE_LOAD, 150);
  const steps = planUs.map((plan, i) => plan + settleUs[i]!).toSorted((a, b) => a - b);
  // The median: what a step costs, whatever else the machine does. About 50 µs.
  expect(steps[75]).toBeLessThan(500);
});
