import { describe, expect, it } from 'vitest';
import { request } from '../test/support/engineHarness.ts';
import { FairQueue, MAX_IDLE_TENANTS } from './fairQueue.ts';
import type { SequenceRequest } from './request.ts';
import { Sequence } from './sequence.ts';

let arrivals = 0;
const sequence = (tenant: string, over: Partial<SequenceRequest> = {}) =>
  new Sequence(request(`q${arrivals}`, [1, 2, 3], { tenant, ...over }), arrivals++);

/** Pushes and takes at once, as a sequence that need not wait. */
function start(queue: FairQueue, tenant: string): Sequence {
  const started = sequence(tenant);
  queue.push(started);
  expect(queue.remove(started)).toBe(true);
  return started;
}

describe('fair queue', () => {
  it('lifts a tenant to the level of the least served that waits', () => {
    const queue = new FairQueue();
    for (const [tenant, served] of [
      ['a', 250],
      ['b', 150],
    ] as const) {
      queue.charge(start(queue, tenant), 0, served);
      queue.push(sequence(tenant));
    }
    expect(queue.served('b')).toBe(800);
    queue.push(sequence('new'));
    expect(queue.served('new')).toBe(500);
  });

  it('lifts a tenant to the level of the last that waited when none waits', () => {
    const queue = new FairQueue();
    queue.charge(start(queue, 'a'), 0, 500);
    queue.push(sequence('late'));
    expect(queue.served('late')).toBe(1_000);
  });

  it('does not lower the counter of a tenant that comes back', () => {
    const queue = new FairQueue();
    queue.push(sequence('low'));
    const heavy = start(queue, 'heavy');
    queue.charge(heavy, 0, 500);
    queue.leave(heavy);
    queue.push(sequence('heavy'));
    expect(queue.served('heavy')).toBe(1_000);
  });

  it('charges by weight', () => {
    const queue = new FairQueue();
    const heavy = sequence('heavy', { weight: 4 });
    queue.push(heavy);
    queue.charge(heavy, 0, 50);
    expect(queue.served('heavy')).toBe(25);
  });

  it('charges a prompt once, when it is computed, and counts what is admitted against the next admission', () => {
    const queue = new FairQueue();
    const running = start(queue, 'a');
    running.unpaid = 100;
    queue.owe(running);
    const [same, other] = [sequence('a'), sequence('b')];
    queue.push(same);
    queue.push(other);
    expect(queue.served('a')).toBe(0);
    expect(queue.first()).toBe(other);
    queue.charge(running, 60, 0);
    expect(queue.served('a')).toBe(60);
    // Preempted, computed again: only the other 40 are charged.
    queue.disown(running);
    expect(queue.first()).toBe(other);
    queue.owe(running);
    queue.charge(running, 100, 0);
    expect(queue.served('a')).toBe(100);
    queue.charge(running, 0, 1);
    expect(queue.served('a')).toBe(102);
    queue.remove(other);
    queue.leave(other);
    queue.charge(running, 50, 0);
    expect(queue.served('a')).toBe(102);
  });

  it('passes over who follows another, within the tenant first, then to the next, and takes it back in its place', () => {
    const queue = new FairQueue();
    const [first, second] = [sequence('a'), sequence('a')];
    const other = sequence('b');
    for (const each of [first, second, other]) queue.push(each);
    queue.charge(other, 0, 5);
    expect(queue.first()).toBe(first);
    queue.follow(first);
    expect(queue.first()).toBe(second);
    queue.follow(second);
    expect(queue.first()).toBe(other);
    queue.follow(other);
    expect(queue.first()).toBeUndefined();
    // They count as waiting all the same.
    expect([queue.waiting, queue.waitingOf('a').sequences, [...queue].length]).toEqual([3, 2, 3]);
    for (const each of [other, second, first]) queue.unfollow(each);
    expect(queue.first()).toBe(first);
    queue.follow(first);
    expect(queue.remove(first)).toBe(true);
    expect(queue.first()).toBe(second);
    expect(queue.waitingOf('a')).toEqual({ sequences: 1, tokens: 7 });
  });

  it('orders a tenant’s own by priority, then the earlier deadline, then arrival', () => {
    const queue = new FairQueue();
    const never = sequence('a');
    const late = sequence('a', { deadlineMs: 900 });
    const soon = sequence('a', { deadlineMs: 100 });
    const soonToo = sequence('a', { deadlineMs: 100 });
    const urgent = sequence('a', { priority: 1 });
    for (const each of [never, late, soonToo, urgent, soon]) queue.push(each);
    const order = [];
    for (let next = queue.first(); next; next = queue.first()) {
      queue.remove(next);
      order.push(next);
    }
    expect(order).toEqual([urgent, soon, soonToo, late, never]);
  });

  it('charges a tenth for what a cache answered, by weight', () => {
    const queue = new FairQueue();
    const cached = start(queue, 'a');
    queue.chargeCached(cached, 500);
    expect(queue.served('a')).toBe(50);
    const own = new FairQueue({ prompt: 1, cached: 0.5, output: 2 });
    own.chargeCached(start(own, 'a'), 500);
    expect(own.served('a')).toBe(250);
  });

  it('puts preempted sequences back oldest first, outside the bounds of the queue', () => {
    const queue = new FairQueue();
    const [older, younger] = [start(queue, 'a'), start(queue, 'a')];
    queue.requeue(younger);
    queue.requeue(older);
    expect(queue.firstPreempted()).toBe(older);
    expect([queue.size, queue.waiting, queue.waitingTokens]).toEqual([2, 0, 0]);
    expect([...queue]).toEqual([older, younger]);
    expect(queue.remove(older)).toBe(true);
    expect(queue.remove(older)).toBe(false);
    expect(queue.firstPreempted()).toBe(younger);
  });

  it('remembers a bounded number of idle tenants, the longest idle forgotten first', () => {
    const queue = new FairQueue();
    const busy = start(queue, 'busy');
    queue.charge(busy, 0, 7);
    for (let i = 0; i <= MAX_IDLE_TENANTS; i++) {
      const one = start(queue, `idle${i}`);
      queue.charge(one, 0, 10);
      queue.leave(one);
    }
    expect(queue.served('idle0')).toBe(0);
    expect(queue.served('idle1')).toBeGreaterThan(0);
    expect(queue.served('busy')).toBe(14);
    // Back from idle and idle again: counted once.
    for (let i = 0; i < 10; i++) queue.leave(start(queue, 'idle1'));
    expect(queue.served('idle2')).toBeGreaterThan(0);
  });
});
