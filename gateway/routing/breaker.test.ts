// A breaker through its states, by a clock that the test turns.
import { beforeEach, expect, test } from 'vitest';
import { Breaker } from './breaker.ts';

let breaker: Breaker;
let nowMs = 0;
const after = (ms: number) => {
  nowMs += ms;
};
const fail = (times: number) => {
  for (let i = 0; i < times; i++) breaker.failed(nowMs);
};
const succeed = (times: number) => {
  for (let i = 0; i < times; i++) breaker.succeeded(nowMs);
};
const closed = () => breaker.closed(nowMs);

beforeEach(() => {
  breaker = new Breaker();
  nowMs = 1_000_000;
});

test('a few failures open nothing; half of the last requests do', () => {
  fail(4);
  expect(closed()).toBe(true);
  fail(1);
  expect(closed()).toBe(false);
});

test('failures among more successes open nothing', () => {
  for (let i = 0; i < 30; i++) {
    succeed(2);
    fail(1);
  }
  expect(closed()).toBe(true);
});

test('failures of long ago count no more', () => {
  fail(4);
  after(31_000);
  fail(4);
  expect(closed()).toBe(true);
});

test('when its pause is over one request is let through; its success closes it', () => {
  fail(5);
  after(999);
  expect(closed()).toBe(false);
  after(1);
  expect(closed()).toBe(true);
  breaker.given(nowMs);
  expect(closed()).toBe(false);
  succeed(1);
  expect(closed()).toBe(true);
  fail(4);
  expect(closed(), 'what was before is forgotten').toBe(true);
});

test('each trial that fails doubles the pause, up to a minute; a success brings back the first', () => {
  fail(5);
  for (const pauseMs of [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]) {
    after(pauseMs - 1);
    expect(closed(), `${pauseMs}`).toBe(false);
    after(1);
    expect(closed(), `${pauseMs}`).toBe(true);
    breaker.given(nowMs);
    fail(1);
  }
  after(60_000);
  breaker.given(nowMs);
  succeed(1);
  fail(5);
  after(1000);
  expect(closed()).toBe(true);
});

test('requests that were begun before it opened say nothing of how it is now', () => {
  fail(5);
  succeed(3);
  fail(10);
  after(1000);
  expect(closed()).toBe(true);
});

test('a trial that nobody hears of ends, and another is let through', () => {
  fail(5);
  after(1000);
  breaker.given(nowMs);
  after(9999);
  expect(closed()).toBe(false);
  after(1);
  expect(closed()).toBe(true);
});

test('a begun stream that goes on there while the pause lasts is no trial, and keeps nobody away after it', () => {
  const breaker = new Breaker();
  for (let i = 0; i < 5; i++) breaker.failed(0);
  expect(breaker.closed(500)).toBe(false);
  breaker.given(500);
  expect(breaker.closed(999)).toBe(false);
  expect(breaker.closed(1000)).toBe(true);
  breaker.given(1000);
  expect(breaker.closed(1001)).toBe(false);
});
