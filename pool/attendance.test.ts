// Who is told that nobody is at the other end, and when, on a clock of its own.
import { expect, test } from 'vitest';
import { Attendance } from './attendance.ts';

function attended(leaseMs: number | undefined) {
  let nowMs = 5_000_000;
  const attendance = new Attendance(() => nowMs);
  const pulse = () => {
    stream.pulses += 1;
  };
  const stream = { over: false, pulses: 0, pulse };
  let lost = 0;
  const onLost = () => {
    lost += 1;
    stream.over = true; // as a request does that ends
  };
  attendance.attend(stream, { keyId: 'key', ...(leaseMs !== undefined && { leaseMs }) }, onLost);
  const pass = (seconds: number, each: () => void = () => {}) => {
    for (let second = 0; second < seconds; second++) {
      nowMs += 1000;
      each();
      attendance.look();
    }
  };
  const standStill = (seconds: number) => {
    nowMs += seconds * 1000;
    attendance.look();
  };
  return { attendance, stream, pass, standStill, lost: () => lost };
}

test('a request whose gateway is silent for its lease is lost, once, and no sooner', () => {
  const { pass, lost } = attended(15_000);
  pass(15);
  expect(lost()).toBe(0);
  pass(1);
  expect(lost()).toBe(1);
  pass(60);
  expect(lost()).toBe(1);
});

test('whatever its key has signed keeps it; what another has does not', () => {
  const kept = attended(15_000);
  kept.pass(300, () => kept.attendance.heard('key'));
  expect(kept.lost()).toBe(0);
  expect(kept.stream.pulses).toBe(300);
  const other = attended(15_000);
  other.pass(300, () => other.attendance.heard('another'));
  expect(other.lost()).toBe(1);
});

test('without a lease nobody is lost, and the stream is kept alive', () => {
  const { pass, lost, stream } = attended(undefined);
  pass(3600);
  expect([lost(), stream.pulses]).toEqual([0, 3600]);
});

test('a stream that is over is looked at no more', () => {
  const { pass, lost, stream } = attended(15_000);
  stream.over = true;
  pass(60);
  expect([lost(), stream.pulses]).toEqual([0, 0]);
});

test('a pool that stood still itself ends nothing for it', () => {
  const { attendance, pass, standStill, lost } = attended(15_000);
  attendance.heard('key');
  pass(3);
  standStill(60);
  expect(lost()).toBe(0);
  pass(16);
  expect(lost()).toBe(1);
});
