import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type TarFile, writeTar } from '../../test/support/tarWriter.ts';
import { readTar, TarError } from './tarEntries.ts';

const data = Buffer.from('driver '.repeat(100));
const file = (more: Partial<TarFile> = {}): TarFile => ({ name: 'lib.so.1', data, ...more });

describe('a tar archive', () => {
  it('gives its files as they went in', () => {
    const entries = readTar(
      writeTar([file(), file({ name: 'empty', data: Buffer.alloc(0) }), file({ name: 'b.json' })]),
    );
    expect([...entries.keys()]).toEqual(['lib.so.1', 'empty', 'b.json']);
    expect(Buffer.from(entries.get('b.json') ?? [])).toEqual(data);
    expect(entries.get('empty')).toHaveLength(0);
  });

  const hostile: [string, Uint8Array, RegExp][] = [
    ['a name that climbs', writeTar([file({ name: '../lib.so' })]), /not a plain file name/],
    ['a name with a folder', writeTar([file({ name: 'a/lib.so' })]), /not a plain file name/],
    ['an absolute name', writeTar([file({ name: '/lib.so' })]), /not a plain file name/],
    ['a prefix', writeTar([file({ prefix: 'etc' })]), /not a plain file name/],
    ['no name', writeTar([file({ name: '' })]), /not a plain file name/],
    ['a link', writeTar([file({ type: '2' })]), /not a plain file/],
    ['a folder', writeTar([file({ type: '5' })]), /not a plain file/],
    ['the same name twice', writeTar([file(), file()]), /occurs twice/],
    ['a size past its end', writeTar([file({ claimedSize: '77777777777\0' })]), /reaches past the end/],
    ['a size that is none', writeTar([file({ claimedSize: '-0000000001\0' })]), /no valid size/],
    ['a wrong checksum', writeTar([file({ checksum: '000001\0 ' })]), /damaged/],
    ['no end', writeTar([file()], false), /ends inside a header/],
    ['nothing', Buffer.alloc(0), /ends inside a header/],
    ['too many entries', writeTar(Array.from({ length: 65 }, (_, i) => file({ name: `f${i}` }))), /more than 64/],
  ];
  it.each(hostile)('is refused with %s', (_name, bytes, words) => {
    expect(() => readTar(bytes)).toThrow(TarError);
    expect(() => readTar(bytes)).toThrow(words);
  });

  it('with any one byte changed, or cut anywhere, never crashes and never gives more than it holds', () => {
    const whole = writeTar([file(), file({ name: 'b' })]);
    fc.assert(
      fc.property(fc.nat(whole.length - 1), fc.nat(255), fc.boolean(), (at, value, cut) => {
        const bytes = Buffer.from(cut ? whole.subarray(0, at) : whole);
        if (!cut) bytes[at] = value;
        try {
          for (const [name, content] of readTar(bytes)) {
            expect(name).toMatch(/^[\w.-]+$/);
            expect(content.length).toBeLessThanOrEqual(bytes.length);
          }
        } catch (error) {
          expect(error).toBeInstanceOf(TarError);
        }
      }),
      { numRuns: 1000 },
    );
  });
});
