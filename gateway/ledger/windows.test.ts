// Calendar windows where clocks change: hours that are skipped or repeated, midnights that don't exist, days that were left out.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isTimeZone, windowAt } from './windows.ts';

const iso = (ms: number | null) => (ms === null ? null : new Date(ms).toISOString());
const day = (zone: string, at: string) => {
  const { startMs, endMs } = windowAt('day', zone, Date.parse(at));
  return [iso(startMs), iso(endMs)];
};

describe('days', () => {
  test.each([
    ['UTC', '2026-07-15T23:59:59.999Z', '2026-07-15T00:00:00.000Z', '2026-07-16T00:00:00.000Z'],
    ['UTC', '2026-07-16T00:00:00.000Z', '2026-07-16T00:00:00.000Z', '2026-07-17T00:00:00.000Z'],
    ['Europe/Berlin, 23 hours', '2026-03-29T12:00:00Z', '2026-03-28T23:00:00.000Z', '2026-03-29T22:00:00.000Z'],
    ['Europe/Berlin, 25 hours', '2026-10-25T12:00:00Z', '2026-10-24T22:00:00.000Z', '2026-10-25T23:00:00.000Z'],
    ['Asia/Kathmandu', '2026-01-01T00:00:00Z', '2025-12-31T18:15:00.000Z', '2026-01-01T18:15:00.000Z'],
    ['Africa/Cairo, no midnight', '2024-04-26T12:00:00Z', '2024-04-25T22:00:00.000Z', '2024-04-26T21:00:00.000Z'],
    [
      'Pacific/Apia, the day after the one left out',
      '2011-12-30T12:00:00Z',
      '2011-12-30T10:00:00.000Z',
      '2011-12-31T10:00:00.000Z',
    ],
    [
      'America/St_Johns, back over midnight',
      '2010-11-07T02:45:00Z',
      '2010-11-07T02:30:00.000Z',
      '2010-11-08T03:30:00.000Z',
    ],
  ])('%s', (name, at, start, end) => {
    expect(day(name.split(',')[0] ?? '', at)).toEqual([start, end]);
  });
});

test('months follow the zone, also over the end of a year', () => {
  const { startMs, endMs } = windowAt('month', 'America/New_York', Date.parse('2026-01-01T04:59:59Z'));
  expect([iso(startMs), iso(endMs)]).toEqual(['2025-12-01T05:00:00.000Z', '2026-01-01T05:00:00.000Z']);
});

test('a lifetime never ends', () => {
  expect(windowAt('lifetime', 'UTC', 5)).toEqual({ startMs: 0, endMs: null });
});

test('windows are gapless and never overlap, wherever and whenever', () => {
  const zones = [
    'UTC',
    'Europe/Berlin',
    'Africa/Cairo',
    'Asia/Beirut',
    'America/St_Johns',
    'Pacific/Apia',
    'Australia/Lord_Howe',
    'America/Nuuk',
    'Asia/Tehran',
  ];
  fc.assert(
    fc.property(
      fc.constantFrom(...zones),
      fc.constantFrom('day' as const, 'month' as const),
      fc.integer({ min: Date.UTC(2005, 0), max: Date.UTC(2030, 0) }),
      (zone, kind, atMs) => {
        const window = windowAt(kind, zone, atMs);
        expect(window.startMs).toBeLessThanOrEqual(atMs);
        expect(window.endMs).toBeGreaterThan(atMs);
        expect(windowAt(kind, zone, window.startMs)).toEqual(window);
        expect(windowAt(kind, zone, (window.endMs ?? 0) - 1)).toEqual(window);
        expect(windowAt(kind, zone, window.endMs ?? 0).startMs).toBe(window.endMs);
        expect(windowAt(kind, zone, window.startMs - 1).endMs).toBe(window.startMs);
      },
    ),
    { numRuns: 3000 },
  );
});

test('zones are known by their IANA names', () => {
  expect([isTimeZone('Europe/Berlin'), isTimeZone('UTC'), isTimeZone('Mars/Olympus'), isTimeZone('')]).toEqual([
    true,
    true,
    false,
    false,
  ]);
});
