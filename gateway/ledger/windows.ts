// Calendar windows of quotas. A day or month is that of an IANA time zone, so it may have 23 or 25 hours, and starts at the first
// instant whose local date is not before it: where summer time skips midnight, that is 01:00. Windows of one quota never overlap
// and leave no gap, also where clocks go back over midnight.

export type WindowKind = 'day' | 'month' | 'lifetime';

export interface Window {
  /** Unix milliseconds, inclusive. */
  startMs: number;
  /** Exclusive; null: never ends. */
  endMs: number | null;
}

const DAY_MS = 86_400_000;

interface CivilDate {
  year: number;
  /** 1 to 12; 13 is January of the next year, as Date.UTC understands it. */
  month: number;
  day: number;
}

export function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en-US', { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

/** The window of `kind` that holds the instant `atMs`. */
export function windowAt(kind: WindowKind, timeZone: string, atMs: number): Window {
  if (kind === 'lifetime') return { startMs: 0, endMs: null };
  const zone = zoneOf(timeZone);
  const today = zone.dateAt(atMs);
  const start = kind === 'day' ? today : { ...today, day: 1 };
  const window = { startMs: zone.firstInstant(start), endMs: zone.firstInstant(next(kind, start)) };
  if (atMs < window.endMs) return window;
  // The clock went back over midnight: the date was reached before, and its window goes on.
  const following = next(kind, start);
  return { startMs: window.endMs, endMs: zone.firstInstant(next(kind, following)) };
}

function next(kind: 'day' | 'month', { year, month, day }: CivilDate): CivilDate {
  return kind === 'day' ? { year, month, day: day + 1 } : { year, month: month + 1, day: 1 };
}

function zoneOf(timeZone: string) {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone,
    hourCycle: 'h23',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
    second: 'numeric',
  });

  /** The local clock's reading at an instant, as if it were UTC. */
  function localMs(atMs: number): number {
    const part: Record<string, number> = {};
    for (const { type, value } of format.formatToParts(atMs)) part[type] = Number(value);
    const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = part;
    return Date.UTC(year, month - 1, day, hour, minute, second);
  }

  return {
    dateAt(atMs: number): CivilDate {
      const local = new Date(localMs(atMs));
      return { year: local.getUTCFullYear(), month: local.getUTCMonth() + 1, day: local.getUTCDate() };
    },

    /** First instant whose local date is `date` or later: its midnight by the offset before or after a change of clocks. */
    firstInstant({ year, month, day }: CivilDate): number {
      const midnight = Date.UTC(year, month - 1, day);
      const candidates = [midnight - DAY_MS, midnight + DAY_MS]
        .map((near) => midnight - (localMs(near) - near))
        .sort((a, b) => a - b);
      return candidates.find((instant) => localMs(instant) >= midnight) ?? midnight;
    },
  };
}
