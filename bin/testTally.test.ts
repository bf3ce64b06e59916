import { describe, expect, it } from 'vitest';
import { tallyLine, tallyVitest } from './testTally.ts';

const file = (status: string, ...results: string[]) => ({
  status,
  assertionResults: results.map((each) => ({ status: each })),
});
const report = (total: number, passed: number, ...testResults: object[]) => ({
  numTotalTests: total,
  numPassedTests: passed,
  testResults,
});

describe('the tally', () => {
  it.each([
    ['all passed', report(2, 2, file('passed', 'passed', 'passed')), 0, '2 passed, 0 failed'],
    ['one failed', report(2, 1, file('failed', 'passed', 'failed')), 1, '1 passed, 1 failed'],
    ['a file that did not load', report(1, 1, file('passed', 'passed'), file('failed')), 1, '1 passed, 1 failed'],
    ['a hook that failed after its tests', report(1, 1, file('failed', 'passed')), 1, '1 passed, 1 failed'],
    ['a test that was left out', report(2, 1, file('passed', 'passed', 'skipped')), 0, '1 passed, 1 failed'],
    ['an error outside of every test', report(1, 1, file('passed', 'passed')), 1, '1 passed, 1 failed'],
    ['nothing that ran', report(0, 0), 0, '0 passed, 1 failed'],
    ['a runner that crashed', null, null, '0 passed, 1 failed'],
    ['a report that is none', { numPassedTests: 'many' }, 0, '0 passed, 1 failed'],
  ])('counts %s', (_name, json, exitCode, line) => {
    expect(tallyLine(tallyVitest(json, exitCode))).toBe(line);
  });
});
