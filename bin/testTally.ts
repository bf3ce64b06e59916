// Counts what `npm test` ran, for its last line: `N passed, N failed`. Pure. Whatever is not known to have passed has failed: a test
// file that did not load, a runner that crashed and left no report, a check that ended with an error.

export interface Tally {
  passed: number;
  failed: number;
}

/** `report`: vitest's JSON report, or null where it left none. `exitCode`: how vitest ended. */
export function tallyVitest(report: unknown, exitCode: number | null): Tally {
  const { numPassedTests, numTotalTests, testResults } = isRecord(report) ? report : {};
  if (typeof numPassedTests !== 'number' || typeof numTotalTests !== 'number' || !Array.isArray(testResults))
    return { passed: 0, failed: 1 };
  // A file that fails while it loads has no tests of its own to count.
  const brokenFiles = testResults.filter(
    (file) =>
      isRecord(file) &&
      file.status === 'failed' &&
      Array.isArray(file.assertionResults) &&
      noneFailed(file.assertionResults),
  ).length;
  const failed = numTotalTests - numPassedTests + brokenFiles;
  // An error outside of every test, or nothing that ran at all, is a failure as well.
  const unexplained = failed === 0 && (exitCode !== 0 || numPassedTests === 0);
  return { passed: numPassedTests, failed: failed + (unexplained ? 1 : 0) };
}

function noneFailed(results: readonly unknown[]): boolean {
  return !results.some((result) => isRecord(result) && result.status === 'failed');
}

export function addTally(a: Tally, b: Tally): Tally {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed };
}

export function tallyLine({ passed, failed }: Tally): string {
  return `${passed} passed, ${failed} failed`;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
