// Events come out the same however their bytes are cut, and a line without an end is an error, not a full memory.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type SseEvent, SseLineTooLong, SseParser } from './sse.ts';

function parse(pieces: readonly Uint8Array[]): SseEvent[] {
  const parser = new SseParser();
  return pieces.flatMap((piece) => parser.push(piece));
}

const bytes = (text: string) => new TextEncoder().encode(text);

test('fields, comments and every kind of line end', () => {
  const text =
    ': hi\r\nid: 1\r\ndata: {"a":1}\r\n\r\nid:2\rdata:x\r\rdata: a\ndata: b\nevent: e\n\ndata\n\nid: 9\n\ndata: cut off';
  expect(parse([bytes(text)])).toEqual([
    { id: '1', data: '{"a":1}' },
    { id: '2', data: 'x' },
    { id: '', data: 'a\nb' },
    { id: '', data: '' },
  ]);
});

test('any cut gives the same events', () => {
  const event = fc.record({
    id: fc.stringMatching(/^[0-9a-f]{4}$/),
    data: fc.string({ unit: 'grapheme', maxLength: 20 }).filter((s) => !/[\r\n]/.test(s)),
  });
  // Of the lines with fields, and of the blank one; a CR and a LF after it would be one end.
  const ends = fc.tuple(fc.constantFrom('\n', '\r\n', '\r'), fc.constantFrom('\n', '\r\n', '\r'));
  fc.assert(
    fc.property(
      fc.array(event, { maxLength: 8 }),
      fc.array(
        ends.filter(([field, blank]) => field !== '\r' || blank !== '\n'),
        { minLength: 8, maxLength: 8 },
      ),
      fc.array(fc.nat(400)),
      (events, mixed, cuts) => {
        const texts = events.map(({ id, data }, i) => {
          const [end, blank] = mixed[i]!;
          return `id: ${id}${end}data: ${data}${end}${blank}`;
        });
        const whole = bytes(texts.join(''));
        const at = [0, ...cuts.map((cut) => cut % (whole.length + 1)).sort((a, b) => a - b), whole.length];
        const pieces = at.slice(1).map((stop, i) => whole.subarray(at[i], stop));
        expect(parse(pieces)).toEqual(events);
      },
    ),
    { numRuns: 1000 },
  );
});

test('a line over the bound is refused, also in many pieces', () => {
  const parser = new SseParser(100);
  expect(parser.push(bytes(`data: ${'x'.repeat(94)}\n\n`))).toHaveLength(1);
  expect(() => {
    for (let i = 0; i < 11; i++) parser.push(bytes('0123456789'));
  }).toThrow(SseLineTooLong);
});

test('an event over the bound is refused, also in many lines', () => {
  const parser = new SseParser(100);
  const line = `data: ${'x'.repeat(40)}\n`;
  for (let i = 0; i < 3; i++) expect(parser.push(bytes(`${line}${line}\n`))).toHaveLength(1);
  expect(() => parser.push(bytes(line.repeat(3)))).toThrow(SseLineTooLong);
});
