// Whether and when a process that died is started again: at once, then ever later, and not at all when it dies faster than it could
// have been of use. Pure: deaths and the time come in.

export interface RestartPolicy {
  /** Wait before the second restart of a row; the first is at once. Doubles from there. */
  initialDelayMs: number;
  maxDelayMs: number;
  /** Deaths within the window that end it: something is wrong that a restart doesn't cure. */
  maxDeaths: number;
  windowMs: number;
}

export const DEFAULT_RESTART_POLICY: RestartPolicy = {
  initialDelayMs: 250,
  maxDelayMs: 10_000,
  maxDeaths: 6,
  windowMs: 120_000,
};

/** `deaths`: times of all deaths, ascending, the last one just now. */
export function nextRestart(
  policy: RestartPolicy,
  deaths: readonly number[],
  nowMs: number,
): { delayMs: number } | null {
  const recent = deaths.filter((at) => nowMs - at < policy.windowMs).length;
  if (recent >= policy.maxDeaths) return null;
  if (recent <= 1) return { delayMs: 0 };
  return { delayMs: Math.min(policy.maxDelayMs, policy.initialDelayMs * 2 ** (recent - 2)) };
}
