// An answer reads the same however its bytes are cut, and what could be read in two ways is refused.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BadAnswer, HttpAnswer } from './httpAnswer.ts';

interface Read {
  status: number | undefined;
  headers: Record<string, string>;
  body: string;
  reusable: boolean;
}

/** Throws BadAnswer where it is malformed, or not whole when the connection ends. */
function read(pieces: readonly Buffer[]): Read {
  const answer = new HttpAnswer();
  const body = Buffer.concat(pieces.flatMap((piece) => answer.push(piece)));
  const beforeEnd = answer.over;
  answer.end();
  const { head, reusable } = answer;
  return {
    ...{ status: head?.status, headers: Object.fromEntries(head?.headers ?? []), body: body.toString('latin1') },
    reusable: reusable && beforeEnd,
  };
}

const readText = (text: string): Read => read([Buffer.from(text, 'latin1')]);

const lines = (...all: string[]): string => all.map((line) => `${line}\r\n`).join('');

test('every framing, with what decides whether the connection goes on', () => {
  const fixed = lines('HTTP/1.1 200 OK', 'Content-Type: text/plain', 'content-length:5', '');
  expect(readText(`${fixed}hello`)).toEqual({
    ...{ status: 200, headers: { 'content-type': 'text/plain', 'content-length': '5' }, body: 'hello', reusable: true },
  });
  const chunked = lines('HTTP/1.1 418', 'Transfer-Encoding: chunked', 'X: 1', 'x: \t2 ', '');
  const chunks = lines('5;note="a;b"', 'hello', '00A', ' 123456789', '0', 'trailer: yes', '');
  expect(readText(chunked + chunks)).toEqual({
    ...{ status: 418, headers: { 'transfer-encoding': 'chunked', x: '1, 2' }, body: 'hello 123456789', reusable: true },
  });
  expect(readText(`${lines('HTTP/1.1 200 OK', '')}until the end`)).toMatchObject({
    ...{ body: 'until the end', reusable: false },
  });
  expect(readText(lines('HTTP/1.1 204 No Content', ''))).toMatchObject({ status: 204, body: '', reusable: true });
  expect(readText(lines('HTTP/1.1 200 OK', 'content-length: 0', 'Connection: Close', ''))).toMatchObject({
    ...{ body: '', reusable: false },
  });
  expect(readText(lines('HTTP/1.0 200 OK', 'content-length: 0', ''))).toMatchObject({ reusable: false });
  const informed = lines('HTTP/1.1 103 Early Hints', 'link: x', '', 'HTTP/1.1 200 OK', 'content-length: 0', '');
  expect(readText(informed)).toMatchObject({ status: 200, headers: { 'content-length': '0' } });
});

const HEAD = ['HTTP/1.1 200 OK', 'content-length: 1', ''];

test.each([
  ['no HTTP', 'hello\r\n'],
  ['HTTP/2', lines('HTTP/2 200', '')],
  ['a status of two digits', lines('HTTP/1.1 20 OK', '')],
  ['another protocol', lines('HTTP/1.1 101 Switching Protocols', '')],
  ['a line feed alone', 'HTTP/1.1 200 OK\ncontent-length: 0\r\n\r\n'],
  ['a line feed alone between headers', 'HTTP/1.1 200 OK\r\na: b\ncontent-length: 0\r\n\r\n'],
  ['a line feed alone behind a value', 'HTTP/1.1 200 OK\r\na: b\n\r\ncontent-length: 0\r\n\r\n'],
  ['a carriage return behind a value', lines('HTTP/1.1 200 OK', 'a: b\r', 'content-length: 0', '')],
  ['a carriage return in a header', lines('HTTP/1.1 200 OK', 'a: b\rcontent-length: 0', '')],
  ['a NUL in a header', lines('HTTP/1.1 200 OK', 'a: \0', 'content-length: 0', '')],
  ['a space that only Unicode knows behind a length', `${lines('HTTP/1.1 200 OK', 'content-length: 5\xa0', '')}hello`],
  ['a folded header', lines('HTTP/1.1 200 OK', 'a: b', ' c', 'content-length: 0', '')],
  ['a space before the colon', lines('HTTP/1.1 200 OK', 'content-length : 0', '')],
  ['a header without a name', lines('HTTP/1.1 200 OK', ': 0', 'content-length: 0', '')],
  ['a header without a colon', lines('HTTP/1.1 200 OK', 'content', 'content-length: 0', '')],
  ['two lengths', lines('HTTP/1.1 200 OK', 'content-length: 0', 'content-length: 0', '')],
  ['a length that is no number', lines('HTTP/1.1 200 OK', 'content-length: +1', '')],
  ['a length and chunks', lines('HTTP/1.1 200 OK', 'content-length: 5', 'transfer-encoding: chunked', '', '0', '')],
  ['another coding', lines('HTTP/1.1 200 OK', 'transfer-encoding: gzip, chunked', '', '0', '')],
  ['a chunk size that is no number', lines('HTTP/1.1 200 OK', 'transfer-encoding: chunked', '', '0x1', 'a', '0', '')],
  ['a chunk longer than its size', lines('HTTP/1.1 200 OK', 'transfer-encoding: chunked', '', '1', 'ab', '0', '')],
  ['bytes behind the end', `${lines(...HEAD)}ab`],
  ['a body that breaks off', lines(...HEAD)],
  ['chunks that break off', lines('HTTP/1.1 200 OK', 'transfer-encoding: chunked', '', '1', 'a')],
  ['a head that breaks off', 'HTTP/1.1 200 OK\r\na: b'],
  ['nothing', ''],
])('%s is refused, in one piece or byte by byte', (_, text) => {
  expect(() => readText(text)).toThrow(BadAnswer);
  expect(() => read([...Buffer.from(text, 'latin1')].map((byte) => Buffer.of(byte)))).toThrow(BadAnswer);
});

test('an empty line of the body is not the end of headers that there are none of', () => {
  expect(readText(`${lines('HTTP/1.1 200 OK', '')}a: b\r\n\r\n`)).toMatchObject({ headers: {}, body: 'a: b\r\n\r\n' });
});

test.each([
  ['a header without an end', 'HTTP/1.1 200 OK\r\na: ', 'x'],
  ['headers without an end', 'HTTP/1.1 200 OK\r\n', 'a: b\r\n'],
  ['informational answers without an end', '', 'HTTP/1.1 100 Continue\r\n\r\n'],
  ['a chunk size without an end', 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1', ';x'],
  ['trailers without an end', 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n', 'a: b\r\n'],
])('%s is bounded, also in many pieces', (_, begin, more) => {
  const answer = new HttpAnswer();
  answer.push(Buffer.from(begin));
  expect(() => {
    for (let sent = 0; sent < 64 * 1024; sent += more.length) answer.push(Buffer.from(more));
  }).toThrow(BadAnswer);
});

test('any cut gives the same answer, and a shorter one is none', () => {
  const chunk = fc.string({ unit: 'binary-ascii', minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(
      fc.array(chunk, { maxLength: 6 }),
      fc.boolean(),
      fc.array(fc.nat()),
      fc.nat(),
      (chunks, whole, cuts, until) => {
        const body = chunks.join('');
        const framed = whole
          ? `${lines('HTTP/1.1 200 OK', `content-length: ${body.length}`, '')}${body}`
          : lines('HTTP/1.1 200 OK', 'transfer-encoding: chunked', '') +
            chunks.map((one) => lines(one.length.toString(16), one)).join('') +
            lines('0', '');
        const bytes = Buffer.from(framed, 'latin1');
        const at = [0, ...cuts.map((cut) => cut % bytes.length).sort((a, b) => a - b), bytes.length];
        const pieces = at.slice(1).map((stop, i) => bytes.subarray(at[i], stop));
        expect(read(pieces)).toMatchObject({ status: 200, body, reusable: true });
        expect(() => read([bytes.subarray(0, until % bytes.length)])).toThrow(BadAnswer);
      },
    ),
    { numRuns: 1000 },
  );
});
