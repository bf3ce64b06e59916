// Which candidate is taken, by times that were measured in turn. Pure.

/** A challenger has to be faster than the rule's candidate by more than this share: less is noise, and would flip from start to start. */
export const MARGIN = 0.03;

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 ? upper : (upper + (sorted[middle - 1] as number)) / 2;
}

/**
 * One time per candidate from its times in each round, the rule's candidate first: the rule's median, times the median of what the candidate took
 * against the rule in the same round. So a machine that is busy for some rounds slows all candidates alike.
 */
export function compared(rounds: ReadonlyMap<string, readonly number[]>): Map<string, number> {
  const [[, rule] = ['', []]] = rounds;
  const typical = median(rule);
  return new Map(
    Array.from(rounds, ([name, times]) => [name, typical * median(times.map((time, round) => time / rule[round]!))]),
  );
}

/** `seconds` by name, the rule's candidate first. */
export function fastest(seconds: ReadonlyMap<string, number>): string {
  const [[rule, bound] = ['', 0]] = seconds;
  let [chosen, least] = [rule, bound * (1 - MARGIN)];
  for (const [name, value] of seconds) if (name !== rule && value < least) [chosen, least] = [name, value];
  return chosen;
}
