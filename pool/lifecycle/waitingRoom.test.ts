import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { poolStopping } from '../errors.ts';
import { WaitingRoom } from './waitingRoom.ts';

const here = new AbortController().signal;
const room = (seats: number, waitMs = 10_000) => new WaitingRoom({ seats, waitMs, retryAfterMs: () => 1234 });
const refused = { wire: { status: 503, code: 'no_pool_ready', retry_after_ms: 1234 } };

describe('the waiting room', () => {
  it('lets everybody start when it opens, in the order of coming, each with its own answer', async () => {
    const waiting = room(3);
    const started: number[] = [];
    const enter = (i: number) =>
      waiting.enter(
        () => {
          started.push(i);
          if (i === 1) throw new Error('refused at once');
          return i === 2 ? Promise.reject(new Error('refused later')) : Promise.resolve();
        },
        here,
        10_000,
      );
    const answers = Promise.allSettled([0, 1, 2].map(enter));
    expect([waiting.size, started]).toEqual([3, []]);
    waiting.open();
    expect([waiting.size, started]).toEqual([0, [0, 1, 2]]);
    expect((await answers).map((answer) => (answer.status === 'rejected' ? answer.reason.message : 'started'))).toEqual(
      ['started', 'refused at once', 'refused later'],
    );
  });

  it('refuses who finds no seat, and who waits too long, with the time to come again, and starts neither', async () => {
    const waiting = room(1, 30);
    let started = 0;
    const start = async () => void started++;
    const first = waiting.enter(start, here, 10_000);
    await expect(waiting.enter(start, here, 10_000)).rejects.toMatchObject(refused);
    await expect(first).rejects.toMatchObject(refused);
    await expect(waiting.enter(start, here, 1)).rejects.toMatchObject(refused);
    waiting.open();
    await sleep(50);
    expect(started).toBe(0);
  });

  it('forgets who leaves, and refuses all at the end', async () => {
    const waiting = room(5);
    let started = 0;
    const start = async () => void started++;
    const leave = new AbortController();
    const leaver = waiting.enter(start, leave.signal, 10_000);
    const gone = waiting.enter(start, AbortSignal.abort(), 10_000);
    const stayer = waiting.enter(start, here, 10_000);
    leave.abort();
    await expect(leaver).rejects.toMatchObject({ wire: { status: 503 } });
    await expect(gone).rejects.toMatchObject({ wire: { status: 503 } });
    expect(waiting.size).toBe(1);
    waiting.refuseAll(poolStopping('over'));
    await expect(stayer).rejects.toThrow('over');
    expect(started).toBe(0);
  });
});
