import { describe, expect, it } from 'vitest';
import { EventStream } from './eventStream.ts';
import type { PoolEvent } from './wire/events.ts';
import { verifyEvent } from './wire/signing.ts';
import { SseParser } from './wire/sse.ts';

const SECRET = Buffer.alloc(32, 3);
const event = (tokens: number): PoolEvent => ({ type: 'prompt', prompts: [[tokens]], prompt_tokens: tokens });

async function readAll(stream: EventStream): Promise<string> {
  return new Response(stream.body).text();
}

describe('an event stream', () => {
  it('signs what leaves in one go with its place, one line of data each', async () => {
    const stream = new EventStream(SECRET, 'nonce', () => {});
    stream.send(event(1));
    stream.send(event(2));
    await Promise.resolve();
    stream.send(event(3));
    stream.end();
    const frames = (await readAll(stream)).split('\n\n').filter(Boolean);
    const parsed = frames.map((frame) => {
      const [, id = '', lines = ''] = /^id: (\S+)\ndata: (.+)$/s.exec(frame) ?? [];
      return { id, data: lines.split('\ndata: ').join('\n') };
    });
    expect(parsed.map(({ data }) => data.split('\n').map((line) => JSON.parse(line)))).toEqual([
      [event(1), event(2)],
      [event(3)],
    ]);
    const holds = (sequence: number, nonce = 'nonce') =>
      parsed.map(({ id, data }) => verifyEvent(SECRET, nonce, sequence, data, id));
    expect([holds(0), holds(1), holds(0, 'other')]).toEqual([
      [true, false],
      [false, true],
      [false, false],
    ]);
  });

  it('says that it lives where nothing has left since the last time, and is a comment to its reader', async () => {
    const stream = new EventStream(SECRET, 'nonce', () => {});
    stream.send(event(1));
    await Promise.resolve();
    for (let look = 0; look < 3; look++) stream.pulse();
    stream.send(event(2));
    stream.end();
    stream.pulse();
    const text = await readAll(stream);
    expect(text.split('\n\n').map((piece) => piece.replace(/^id: .*/s, 'event'))).toEqual([
      ...['event', ':', ':', 'event', ''],
    ]);
    expect(new SseParser().push(Buffer.from(text))).toHaveLength(2);
    expect(stream.over).toBe(true);
  });

  it('sends much in several events, each of which a reader can take whole', async () => {
    const stream = new EventStream(SECRET, 'nonce', () => {});
    for (let i = 0; i < 20_000; i++) stream.send(event(i));
    stream.end();
    const frames = (await readAll(stream)).split('\n\n').filter(Boolean);
    expect(frames.length).toBeGreaterThan(10);
    expect(Math.max(...frames.map(({ length }) => length))).toBeLessThan(256 * 1024);
    expect(frames.join('\n').match(/^data: /gm)).toHaveLength(20_000);
  });

  it('gives up a reader that stays behind too far, once, and keeps nothing more for it', async () => {
    let abandoned = 0;
    const stream = new EventStream(SECRET, 'nonce', () => abandoned++, 1000);
    for (let i = 0; i < 100; i++) {
      stream.send(event(i));
      await Promise.resolve();
    }
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
