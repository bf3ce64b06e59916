import { expect, test } from 'vitest';
import { StepWait } from './stepWait.ts';

test('sleeps most of what the fastest step of the same size took, and nothing for an unknown or a short one', () => {
  const wait = new StepWait();
  expect(wait.sleepMs(1, 1)).toBe(0);
  for (const ms of [30, 20, 25]) wait.note(1, 1, ms);
  expect(wait.sleepMs(1, 1)).toBe(Math.floor(20 * 1.02 * 0.8));
  expect(wait.sleepMs(2, 1)).toBe(0);
  wait.note(2, 1, 3);
  expect(wait.sleepMs(2, 1)).toBe(0);
});

test('one slow step, a shader that was compiled, is not slept again; a slower machine is learnt', () => {
  const wait = new StepWait();
  wait.note(1, 1, 7000);
  wait.note(1, 1, 20);
  expect(wait.sleepMs(1, 1)).toBe(16);
  for (let i = 0; i < 100; i++) wait.note(1, 1, 50);
  expect(wait.sleepMs(1, 1)).toBe(40);
});

test('remembers a bounded number of sizes', () => {
  const wait = new StepWait();
  for (let tokens = 0; tokens < 300; tokens++) wait.note(tokens, 1, 100);
  expect(wait.sleepMs(0, 1)).toBe(0);
  expect(wait.sleepMs(299, 1)).toBe(80);
});
