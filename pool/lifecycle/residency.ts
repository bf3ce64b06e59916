// Which engines may stay on the device: who sleeps because nobody asks for it, and who makes room for another. Pure: uses, states and
// the time come in. In both cases the least recently used goes first.
import { invariant } from '../../engine/invariant.ts';
import type { PoolState } from '../wire/states.ts';

export interface Resident {
  engine: string;
  state: PoolState;
  /** Requests that it serves now. */
  running: number;
  /** When its last request began or ended. */
  usedMs: number;
  /** Device memory that it takes while it is awake. */
  deviceBytes: number;
}

export interface IdleRule {
  /** null: nobody sleeps because it is idle. */
  sleepAfterMs: number | null;
  /** Engines that stay warm in any case: those used last. */
  minWarm: number;
}

const byUse = (a: Resident, b: Resident): number => a.usedMs - b.usedMs;

/** Who falls asleep now, the least recently used first. */
export function idleEngines(residents: readonly Resident[], rule: IdleRule, nowMs: number): string[] {
  const { sleepAfterMs, minWarm } = rule;
  if (sleepAfterMs === null) return [];
  const warm = residents.filter(({ state }) => state === 'warm').sort(byUse);
  return warm
    .slice(0, Math.max(0, warm.length - minWarm))
    .filter(({ running, usedMs }) => running === 0 && nowMs - usedMs >= sleepAfterMs)
    .map(({ engine }) => engine);
}

export type Room =
  | { kind: 'fits' }
  /** This one sleeps first. */
  | { kind: 'sleep'; engine: string }
  /** All that could sleep have requests; this one takes no more, and sleeps when it has none. */
  | { kind: 'yield'; engine: string };

/** How `wanted`, which alone fits the budget, comes to its memory, while none of the others is on its way there. `budgetBytes` null: no bound. */
export function makeRoom(residents: readonly Resident[], wanted: Resident, budgetBytes: number | null): Room {
  if (budgetBytes === null) return { kind: 'fits' };
  const warm = residents.filter(({ engine, state }) => engine !== wanted.engine && state === 'warm').sort(byUse);
  const used = warm.reduce((sum, { deviceBytes }) => sum + deviceBytes, 0);
  if (used + wanted.deviceBytes <= budgetBytes) return { kind: 'fits' };
  const idle = warm.find(({ running }) => running === 0);
  if (idle) return { kind: 'sleep', engine: idle.engine };
  invariant(warm[0], 'what is alone fits where it is less than the budget');
  return { kind: 'yield', engine: warm[0].engine };
}
