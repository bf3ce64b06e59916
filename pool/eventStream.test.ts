import { describe, expect, it } from 'vitest';
import { EventStream } from './eventStream.ts';
import type { PoolEvent } from './wire/events.ts';
import { verifyEvent } from './wire/signing.ts';

const SECRET = Buffer.alloc(32, 3);
const event = (tokens: number): PoolEvent => ({ type: 'prompt', prompts: [[tokens]], prompt_tokens: tokens });

async function readAll(stream: EventStream): Promise<string> {
  return new Response(stream.body).text();
}

describe('an event stream', () => {
  it('signs each event with its place, one line of data each', async () => {
    const stream = new EventStream(SECRET, 'nonce', () => {});
    stream.send(event(1));
    stream.send(event(2));
    stream.end();
    const frames = (await readAll(stream)).split('\n\n').filter(Boolean);
    const parsed = frames.map((frame) => /^id: (\S+)\ndata: ([^\n]+)$/.exec(frame)?.slice(1) ?? []);
    expect(parsed.map(([, data = '']) => JSON.parse(data))).toEqual([event(1), event(2)]);
    const [[first = '', one = ''] = [], [second = '', two = ''] = []] = parsed;
    expect([verifyEvent(SECRET, 'nonce', 0, one, first), verifyEvent(SECRET, 'nonce', 1, two, second)]).toEqual([
      true,
      true,
    ]);
    expect([verifyEvent(SECRET, 'nonce', 1, one, first), verifyEvent(SECRET, 'other', 0, one, first)]).toEqual([
      false,
      false,
    ]);
  });

  it('gives up a reader that stays behind too far, once, and keeps nothing more for it', async () => {
    let abandoned = 0;
    const stream = new EventStream(SECRET, 'nonce', () => abandoned++, 1000);
    for (let i = 0; i < 100; i++) stream.send(event(i));
    expect(abandoned).toBe(1);
    await expect(readAll(stream)).rejects.toThrow('too slow');
    stream.end();
    expect(abandoned).toBe(1);
  });

  it('tells when its reader leaves, but not after its end', async () => {
    let abandoned = 0;
    const left = new EventStream(SECRET, 'nonce', () => abandoned++);
    await left.body.cancel();
    left.send(event(1));
    left.abandon();
    expect(abandoned).toBe(1);
    const ended = new EventStream(SECRET, 'nonce', () => abandoned++);
    ended.end();
    ended.abandon();
    expect(abandoned).toBe(1);
  });
});
