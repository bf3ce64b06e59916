// The order on which the bill rests, with a scripted engine and a real journal on a disk that can be made to fail.
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { SequenceOutput, SequenceRequest } from '../engine/request.ts';
import { BYTE_TEXT_VOCAB, byteText } from '../test/support/byteText.ts';
import type { EnginePort } from './engineClient.ts';
import type { TakeAnswer } from './engineMessages.ts';
import { poolStopping } from './errors.ts';
import type { EventSink } from './eventStream.ts';
import { Journal, type JournalIo } from './journal.ts';
import { PoolMetrics } from './metrics.ts';
import { type Grant, type Inference, planRequest } from './plan.ts';
import { Requests } from './requests.ts';
import type { PoolModel } from './servedModel.ts';
import type { PoolEvent } from './wire/events.ts';

const MODEL: PoolModel = {
  id: 'bytes',
  engine: 'bytes',
  created: 0,
  text: byteText(),
  contextLength: 512,
  vocabSize: BYTE_TEXT_VOCAB,
  fingerprint: 'f',
  adapter: 'a',
  longestTokenBytes: 6,
};

class ScriptedEngine implements EnginePort {
  readonly submitted: SequenceRequest[] = [];
  readonly cancelled: string[] = [];
  answer: TakeAnswer | null = { kind: 'taken' };

  submit(_: string, sequences: SequenceRequest[], onAnswer: (answer: TakeAnswer) => void): void {
    this.submitted.push(...sequences);
    if (this.answer) onAnswer(this.answer);
  }

  cancel(_: string, ids: string[]): void {
    this.cancelled.push(...ids);
  }
}

class Sink implements EventSink {
  readonly events: PoolEvent[] = [];
  ended = 0;
  onSend: (event: PoolEvent) => void = () => {};

  send(event: PoolEvent): void {
    this.onSend(event);
    this.events.push(event);
  }

  end(): void {
    this.ended += 1;
  }
}

let folder = '';
let failing = false;
let appends = 0;
let now = 1000;
let engine = new ScriptedEngine();
let journal: Journal;
let requests: Requests;
const logged: string[] = [];

const io: JournalIo = {
  ...fs,
  writeSync: (fd: number, data: NodeJS.ArrayBufferView | string, offset?: number | null | object) => {
    if (failing) throw Object.assign(new Error('no space left'), { code: 'ENOSPC' });
    appends += 1;
    return fs.writeSync(fd, data as NodeJS.ArrayBufferView, offset as number);
  },
};

beforeEach(() => {
  folder = fs.mkdtempSync(join(tmpdir(), 'requests-'));
  failing = false;
  now = 1000;
  engine = new ScriptedEngine();
  journal = new Journal({ folder, fsync: 'none', segmentBytes: 1 << 20, now: () => now, io });
  requests = new Requests({
    engine,
    journal,
    metrics: new PoolMetrics(),
    poolId: 'p',
    maxReceipts: 3,
    onEnded: () => {},
    now: () => now,
    log: (level, event) => logged.push(`${level} ${event}`),
  });
  appends = 0;
});
afterEach(() => {
  requests.failAll({ error: poolStopping('The test is over.'), outcome: 'failed' });
  journal.close();
  fs.rmSync(folder, { recursive: true, force: true });
});

function start(requestId: string, body: Partial<Extract<Inference, { kind: 'completion' }>['request']> = {}) {
  const grant: Grant = {
    requestId,
    tenant: 't',
    priority: 0,
    deadlineMs: 60_000,
    holdTokens: 400,
    weight: 1,
    account: { name: 't', weight: 1, floorShare: 0 },
    cache: null,
  };
  const request = { model: 'bytes', prompt: 'abc', max_tokens: 10, ...body };
  const plan = planRequest(MODEL, { kind: 'completion', request }, grant, () => 7n);
  const sink = new Sink();
  return { sink, taken: requests.start(MODEL, plan, grant, sink) };
}

function output(index: number, text: string, more: Partial<SequenceOutput> = {}): SequenceOutput {
  return { id: engine.submitted[index]?.id ?? '', ids: [...Buffer.from(text)], position: 0, ...more };
}

function step(...outputs: SequenceOutput[]): void {
  requests.onStep({ engine: 'bytes', outputs, elapsedMs: 1, tokens: 1 });
}

describe('running requests', () => {
  it('journal a step of many requests in one append, before any of its events leaves', () => {
    const [a, b, c] = [start('a'), start('b'), start('c', { n: 2 })];
    appends = 0;
    const seen: number[][] = [];
    for (const { sink } of [a, b, c])
      sink.onSend = () => seen.push([appends, ...['a', 'b', 'c'].map((id) => sum(journal.book.get(id)?.choices))]);
    step(output(0, 'x'), output(1, 'yy'), output(2, 'z'), output(3, 'zz'));
    expect(appends).toBe(1);
    expect(seen).toHaveLength(4);
    for (const one of seen) expect(one).toEqual([1, 1, 2, 3]);
  });

  it('release nothing when the disk is full: all fail with what had been released, and readiness heals later', async () => {
    const [a, b] = [start('a'), start('b')];
    await Promise.all([a.taken, b.taken]);
    step(output(0, 'x'), output(1, 'y'));
    failing = true;
    step(output(0, 'x', { position: 1 }));
    for (const { sink } of [a, b]) {
      const last = sink.events.at(-1);
      expect(last).toMatchObject({
        type: 'error',
        error: { status: 500, code: 'internal_error' },
        receipt: { outcome: 'failed', choices: [1] },
      });
      expect(sink.events.filter((event) => event.type === 'delta')).toHaveLength(1);
      expect(sink.ended).toBe(1);
    }
    expect(new Set(engine.cancelled)).toEqual(new Set(engine.submitted.map((sequence) => sequence.id)));
    expect(() => start('c')).toThrow(expect.objectContaining({ wire: expect.objectContaining({ status: 500 }) }));
    failing = false;
    expect(journal.heal()).toBe(true);
    journal.close();
    journal = new Journal({ folder, fsync: 'none', segmentBytes: 1 << 20, now: () => now });
    expect(journal.book.get('a')).toMatchObject({ outcome: 'failed', choices: [1] });
  });

  it('that could not even be recorded are refused, and leave nothing in the engine', async () => {
    failing = true;
    const { taken, sink } = start('a');
    await expect(taken).rejects.toMatchObject({ wire: { status: 500 } });
    expect(engine.cancelled).toEqual([engine.submitted[0]?.id]);
    expect(journal.book.get('a')).toBeUndefined();
    expect(sink.events.filter((event) => event.type !== 'error')).toEqual([]);
    expect(requests.count).toBe(0);
  });

  it('release nothing behind a stop string, and cancel only the choice that ended', () => {
    const { sink } = start('a', { n: 2, stop: 'END' });
    step(output(0, 'oneENDtwo'), output(1, 'fine'));
    expect(engine.cancelled).toEqual([engine.submitted[0]?.id]);
    expect(journal.book.get('a')).toMatchObject({ outcome: 'running', choices: [6, 4] });
    step(output(0, 'late', { position: 9 }), output(1, '!', { position: 4, end: 'stop' }));
    expect(journal.book.get('a')).toMatchObject({ outcome: 'completed', choices: [6, 5] });
    const texts = sink.events.flatMap((event) =>
      event.type === 'delta' ? [[event.choice, event.text, event.finish_reason]] : [],
    );
    expect(texts).toEqual([
      [0, 'one', 'stop'],
      [1, 'fine', undefined],
      [1, '!', 'stop'],
    ]);
    expect(sink.events.at(-1)).toMatchObject({ type: 'done', usage: { completion_tokens: 11 } });
  });

  it('count a prompt’s cached tokens once, whatever the number of its choices', () => {
    const { sink } = start('a', { n: 3 });
    step(output(0, '', { cachedTokens: 1 }), output(1, 'x', { cachedTokens: 2 }), output(2, 'x', { cachedTokens: 2 }));
    step(...[0, 1, 2].map((i) => output(i, 'y', { position: i === 0 ? 0 : 1, end: 'length' })));
    expect(sink.events.at(-1)).toMatchObject({
      type: 'done',
      usage: { prompt_tokens: 3, cached_tokens: 1 },
      receipt: { cached_tokens: 1 },
    });
  });

  it('tell drafts in usage and receipt: accepted ones are released, cut ones rejected, and neither is a position more', () => {
    const { sink } = start('a', { n: 2, stop: 'END' });
    step(output(0, 'abc', { drafts: { accepted: 2, rejected: 1 } }), output(1, 'x'));
    expect(sink.events.findLast(({ type }) => type === 'delta')).toMatchObject({
      usage: { completion_tokens: 4, accepted_prediction_tokens: 2, rejected_prediction_tokens: 1 },
    });
    // Six ids, of which the stop string leaves four: a draft behind it was drawn, and is no part of the answer.
    step(output(0, 'ENDxyz', { position: 3, drafts: { accepted: 5, rejected: 0 } }));
    step(output(1, 'y', { position: 1, end: 'stop' }));
    const predictions = { accepted_prediction_tokens: 5, rejected_prediction_tokens: 3 };
    expect(sink.events.at(-1)).toMatchObject({
      type: 'done',
      usage: { completion_tokens: 8, ...predictions },
      receipt: { choices: [6, 2], ...predictions },
    });
    journal.close();
    journal = new Journal({ folder, fsync: 'none', segmentBytes: 1 << 20, now: () => now });
    expect(journal.book.get('a')).toMatchObject({ choices: [6, 2], ...predictions });
  });

  it('fail alone when the engine contradicts itself', () => {
    const [a, b] = [start('a'), start('b')];
    step(output(0, 'x', { position: 5 }), output(1, 'y'));
    expect(a.sink.events.at(-1)).toMatchObject({
      type: 'error',
      error: { code: 'internal_error' },
      receipt: { choices: [0], outcome: 'failed' },
    });
    expect(b.sink.events.at(-1)).toMatchObject({ type: 'delta', text: 'y' });
    expect(logged).toContain('error request_failed');
  });

  it('release nothing at or after their deadline', () => {
    const { sink } = start('a');
    now = 60_000;
    step(output(0, 'x'));
    expect(sink.events.map((event) => event.type)).toEqual(['prompt', 'error']);
    expect(journal.book.get('a')).toMatchObject({ outcome: 'cancelled', choices: [0] });
  });

  it('end at their deadline also while the engine says nothing', async () => {
    now = 59_970;
    const { sink } = start('a');
    await expect.poll(() => sink.ended).toBe(1);
    expect(sink.events.at(-1)).toMatchObject({ type: 'error', error: { code: 'deadline_exceeded' } });
    expect(engine.cancelled).toEqual([engine.submitted[0]?.id]);
  });

  it('that go on stand in the journal as they stood, and replace what an earlier life left', async () => {
    const seen = { ids: [...Buffer.from('on')], finish_reason: null };
    const over = { ids: [...Buffer.from('x')], finish_reason: 'stop' as const };
    const resume = (cached: number) => ({
      ...{ fingerprint: 'f', prompts: [[...Buffer.from('abc')]], prompt_logprobs: [0], choices: [seen, over] },
      usage: { cached_tokens: cached, accepted_prediction_tokens: 2, rejected_prediction_tokens: 1 },
    });
    const body = { n: 2, seed: 1, stop: 'END', resume: resume(1) };
    const predictions = { accepted_prediction_tokens: 2, rejected_prediction_tokens: 1 };
    const { sink, taken } = start('a', body);
    await taken;
    expect(engine.submitted).toMatchObject([{ choice: 0, outputIds: Int32Array.from(seen.ids), maxTokens: 10 }]);
    expect(journal.book.get('a')).toMatchObject({
      choices: [2, 1],
      cached_tokens: 1,
      outcome: 'running',
      ...predictions,
    });
    step(output(0, 'eE', { position: 2, cachedTokens: 3, drafts: { accepted: 1, rejected: 0 } }));
    expect(sink.events.slice(1)).toMatchObject([
      {
        choice: 0,
        position: 2,
        text: 'e',
        usage: { cached_tokens: 1, completion_tokens: 5, accepted_prediction_tokens: 3 },
      },
    ]);
    requests.failAll({ error: poolStopping('The pool is lost.'), outcome: 'failed' });
    expect(journal.book.get('a')).toMatchObject({ choices: [4, 1], outcome: 'failed' });
    // Its gateway saw less than the journal has: it goes on from there, and the bill is that of what it is told.
    const again = start('a', body);
    await again.taken;
    expect(journal.book.get('a')).toMatchObject({ choices: [2, 1], outcome: 'running' });
    step(output(1, 'eE!', { position: 2, end: 'stop' }));
    expect(again.sink.events.at(-1)).toMatchObject({ type: 'done', receipt: { choices: [5, 1], cached_tokens: 1 } });
    expect(journal.book.size).toBe(1);
    journal.close();
    journal = new Journal({ folder, fsync: 'none', segmentBytes: 1 << 20, now: () => now });
    expect(journal.book.get('a')).toMatchObject({ choices: [5, 1], outcome: 'completed', ...predictions });
  });

  it('that go on and are not taken leave the receipt of their earlier life as it was', async () => {
    const first = start('a');
    await first.taken;
    step(output(0, 'xy'));
    requests.abort('a');
    const before = journal.book.get('a');
    expect(before).toMatchObject({ outcome: 'cancelled', choices: [2] });
    const usage = { cached_tokens: 0 };
    const choices = [{ ids: [120], finish_reason: null }];
    const resume = { ...{ fingerprint: 'f', prompts: [[97, 98, 99]], prompt_logprobs: [0] }, choices, usage };
    engine.answer = { kind: 'refused', refusal: { code: 'overloaded', message: 'full' } };
    await expect(start('a', { seed: 1, resume }).taken).rejects.toMatchObject({ wire: { resumable: true } });
    engine.answer = null;
    const waiting = start('a', { seed: 1, resume });
    requests.abort('a');
    await expect(waiting.taken).rejects.toThrow();
    engine.answer = { kind: 'taken' };
    failing = true;
    const unrecorded = start('a', { seed: 1, resume });
    await expect(unrecorded.taken).rejects.toMatchObject({ wire: { status: 500 } });
    for (const { sink } of [waiting, unrecorded])
      expect(sink.events).toEqual([{ type: 'error', error: expect.anything() }]);
    expect(journal.book.get('a')).toEqual(before);
  });

  it('that are aborted before the engine answered leave no receipt and nothing in the engine', async () => {
    engine.answer = null;
    const { taken } = start('a');
    requests.abort('a');
    await expect(taken).rejects.toThrow();
    expect(engine.cancelled).toEqual([engine.submitted[0]?.id]);
    expect(journal.book.get('a')).toBeUndefined();
    engine.answer = { kind: 'taken' };
    await start('a').taken; // the id was never used up
  });

  it('are aborted by a reader that leaves while its last events are sent, and end once', () => {
    const { sink } = start('a');
    sink.onSend = (event) => event.type === 'delta' && requests.abort('a');
    step(output(0, 'x', { end: 'stop' }));
    expect(sink.ended).toBe(1);
    expect(journal.book.get('a')).toMatchObject({ outcome: 'completed', choices: [1] });
  });

  it('are refused when the engine refuses, or when too many receipts are unacknowledged', async () => {
    engine.answer = { kind: 'refused', refusal: { code: 'overloaded', message: 'full', retryAfterMs: 1500 } };
    await expect(start('a').taken).rejects.toMatchObject({ wire: { status: 503, retry_after_ms: 1500 } });
    engine.answer = { kind: 'bug', message: 'a seed is a number' };
    await expect(start('a').taken).rejects.toMatchObject({ wire: { status: 500 } });
    engine.answer = { kind: 'taken' };
    for (const id of ['a', 'b', 'c']) await start(id).taken;
    expect(() => start('d')).toThrow('receipts');
  });
});

function sum(numbers: readonly number[] | undefined): number {
  return (numbers ?? []).reduce((total, one) => total + one, 0);
}
