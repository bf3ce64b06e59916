// What steps are taken to cost, from what they cost lately.
import { describe, expect, it } from 'vitest';
import { FRESH_STEPS, StepCosts } from './stepCosts.ts';

/** Measured often enough to be believed. */
function measured(costs: StepCosts, rows: number, ms: number, times = 40): void {
  for (let i = 0; i < times; i++) costs.note(rows, rows, ms);
}

describe('the cost of a step', () => {
  it('is in units of one row before anything is known, and rises with rows', () => {
    const costs = new StepCosts(16);
    expect(costs.ms(1)).toBe(1);
    for (let rows = 2; rows <= 16; rows++) expect(costs.ms(rows)).toBeGreaterThan(costs.ms(rows - 1));
  });

  it('is what was measured, between sizes a line, beyond them the assumed shape', () => {
    const costs = new StepCosts(16);
    measured(costs, 1, 20);
    expect(costs.ms(1)).toBeCloseTo(20);
    expect(costs.ms(5)).toBeCloseTo(40);
    measured(costs, 5, 60);
    expect(costs.ms(5)).toBeCloseTo(60, 1);
    expect(costs.ms(3)).toBeCloseTo(40, 1);
    expect(costs.ms(9)).toBeCloseTo(90, 0);
  });

  it('believes no single step that took long', () => {
    const costs = new StepCosts(16);
    measured(costs, 1, 20);
    costs.note(4, 4, 5000);
    expect(costs.ms(4)).toBeLessThanOrEqual(2 * 20 * 1.75);
    measured(costs, 1, 20);
    costs.note(1, 1, 5000);
    expect(costs.ms(1)).toBeLessThan(25);
  });

  it('forgets a size that has not been seen for long, so that it is tried again', () => {
    const costs = new StepCosts(16);
    measured(costs, 4, 400);
    measured(costs, 1, 20, FRESH_STEPS - 1);
    expect(costs.ms(4)).toBeGreaterThan(300);
    costs.note(1, 1, 20);
    expect(costs.ms(4)).toBeCloseTo(20 * 1.75);
  });

  it('counts what tokens of prompts add by themselves', () => {
    const costs = new StepCosts(16);
    measured(costs, 2, 30);
    for (let i = 0; i < 40; i++) costs.note(52, 2, 330);
    expect(costs.promptMs(10)).toBeCloseTo(60);
    expect(costs.ms(2)).toBeCloseTo(30);
  });
});
