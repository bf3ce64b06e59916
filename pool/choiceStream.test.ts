import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ChoiceStream } from './choiceStream.ts';
import { StopSet } from './stopStrings.ts';

/** Tokens are the pieces themselves: id i is piece i. */
function run(pieces: Uint8Array[], batches: number[], stops: string[]) {
  const tokens = { tokenBytes: (id: number) => pieces[id] ?? new Uint8Array(0), isControl: () => false };
  const stream = new ChoiceStream(tokens, new StopSet(stops), pieces.length);
  let text = '';
  let ids = 0;
  let position = 0;
  for (const size of [...batches, pieces.length]) {
    const batch = Array.from({ length: Math.min(size, pieces.length - position) }, (_, i) => position + i);
    const last = position + batch.length === pieces.length;
    const released = stream.accept({ ids: batch, position, ...(last && { end: 'length' as const }) });
    text += released.text;
    ids += released.ids.length;
    position += batch.length;
    if (released.finish) return { text, ids, finish: released.finish };
  }
  throw new Error('never finished');
}

const unit = fc.constantFrom('a', 'b', 'é', '€', '\ud83d\ude00');
const string = (constraints: { minLength?: number; maxLength: number }) => fc.string({ unit, ...constraints });

describe('a choice', () => {
  it('has the same text and the same cut for every split into tokens and steps', () => {
    const split = fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 30 });
    const stops = fc.array(string({ minLength: 1, maxLength: 3 }), { maxLength: 3 });
    fc.assert(
      fc.property(string({ maxLength: 12 }), split, split, stops, (text, sizes, batches, stops) => {
        const bytes = Buffer.from(text);
        const byByte = [...bytes].map((byte) => Uint8Array.of(byte));
        const pieces: Uint8Array[] = [];
        for (let at = 0, i = 0; at < bytes.length; at += sizes[i++ % Math.max(1, sizes.length)] ?? 1)
          pieces.push(bytes.subarray(at, at + (sizes[i % Math.max(1, sizes.length)] ?? 1)));
        if (pieces.length === 0) return;
        const one = run(byByte, [], stops);
        const other = run(pieces, batches, stops);
        expect({ text: other.text, finish: other.finish }).toEqual({ text: one.text, finish: one.finish });
        // The last released token is the one that completes the stop string, and not one more.
        const shown = (tokens: Uint8Array[], count: number) => Buffer.concat(tokens.slice(0, count)).toString();
        if (other.finish === 'stop') {
          expect(stops.some((stop) => shown(pieces, other.ids).includes(stop))).toBe(true);
          expect(stops.some((stop) => shown(pieces, other.ids - 1).includes(stop))).toBe(false);
        } else expect(other.ids).toBe(pieces.length);
      }),
      { numRuns: 3000 },
    );
  });

  it('goes on from any token as it would have: no text twice, none lost, half characters and half stop strings kept', () => {
    const pieces = fc.array(fc.uint8Array({ minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 16 });
    const texts = fc.array(string({ minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 8 });
    const cutTexts = texts.map((all) => Array.from(Buffer.from(all.join('')), (byte) => Uint8Array.of(byte)));
    const stops = fc.array(string({ minLength: 1, maxLength: 3 }), { maxLength: 3 });
    let held = 0;
    fc.assert(
      fc.property(fc.oneof(pieces, cutTexts), stops, fc.nat(), (pieces, stops, at) => {
        const tokens = { tokenBytes: (id: number) => pieces[id]!, isControl: () => false };
        const set = new StopSet(stops);
        const ids = pieces.map((_, id) => id);
        const whole = new ChoiceStream(tokens, set, ids.length);
        const cut = at % ids.length;
        const before = whole.accept({ ids: ids.slice(0, cut), position: 0 });
        const later = new ChoiceStream(tokens, set, ids.length);
        expect(later.resume(before.ids, before.finish)).toBe(true);
        expect([later.released, later.finish]).toEqual([whole.released, whole.finish]);
        if (before.finish !== null) {
          // Without its finish it is told apart from one that goes on.
          expect(new ChoiceStream(tokens, set, ids.length).resume(before.ids, null)).toBe(false);
          return;
        }
        const rest = { ids: ids.slice(cut), position: cut, end: 'length' as const };
        expect(later.accept(rest)).toEqual(whole.accept(rest));
        if (before.text !== Buffer.concat(pieces.slice(0, cut)).toString()) held += 1;
      }),
      { numRuns: 3000 },
    );
    expect(held).toBeGreaterThan(300);
  });

  it('flushes what it held back when it ends: half a stop string, half a character', () => {
    const pieces = [Buffer.from('ab'), Buffer.from('EN'), Uint8Array.of(0xe2)];
    expect(run(pieces, [1, 1, 1], ['END'])).toEqual({ text: 'abEN\ufffd', ids: 3, finish: 'length' });
  });
});
