import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Detokenizer, tokenText } from './detokenizer.ts';

/** Ids index into these pieces; a negative index marks a control token. */
function tokensOf(pieces: Uint8Array[], control: ReadonlySet<number> = new Set()) {
  return { tokenBytes: (id: number) => pieces[id] ?? new Uint8Array(0), isControl: (id: number) => control.has(id) };
}

function split(bytes: Uint8Array, cuts: number[]): Uint8Array[] {
  const at = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  return [...at, bytes.length].map((end, i) => bytes.subarray(i === 0 ? 0 : at[i - 1], end));
}

describe('the detokeniser', () => {
  it('gives the same text for any split of it into tokens, and never half a character', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.array(fc.nat(), { maxLength: 20 }), (text, cuts) => {
        const whole = new TextDecoder('utf-8', { ignoreBOM: true }).decode(Buffer.from(text));
        const pieces = split(Buffer.from(text), cuts);
        const detokenizer = new Detokenizer(tokensOf(pieces));
        let got = '';
        for (const id of pieces.keys()) {
          got += detokenizer.push(id);
          expect(whole.startsWith(got)).toBe(true);
        }
        expect(got + detokenizer.flush()).toBe(whole);
      }),
      { numRuns: 2000 },
    );
  });

  it('turns any bytes into what a decoder makes of them at once', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.array(fc.nat(), { maxLength: 20 }), (bytes, cuts) => {
        const pieces = split(bytes, cuts);
        const detokenizer = new Detokenizer(tokensOf(pieces));
        const got = [...pieces.keys()].map((id) => detokenizer.push(id)).join('') + detokenizer.flush();
        expect(got).toBe(new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes));
      }),
    );
  });

  it('holds a byte back until its character is whole, and says U+FFFD when it never is', () => {
    const detokenizer = new Detokenizer(tokensOf([...Buffer.from('€')].map((byte) => Uint8Array.of(byte))));
    expect([detokenizer.push(0), detokenizer.push(1), detokenizer.push(2)]).toEqual(['', '', '€']);
    expect(detokenizer.push(0) + detokenizer.push(1)).toBe('');
    expect(detokenizer.flush()).toBe('\ufffd');
  });

  it('gives control tokens no text, and keeps a byte order mark', () => {
    const tokens = tokensOf([Buffer.from('<eos>'), Buffer.from('\ufeffa')], new Set([0]));
    const detokenizer = new Detokenizer(tokens);
    expect(detokenizer.push(0) + detokenizer.push(1) + detokenizer.flush()).toBe('\ufeffa');
    expect(tokenText(tokens, 0)).toEqual({ token: '<eos>', bytes: [...Buffer.from('<eos>')] });
  });
});
