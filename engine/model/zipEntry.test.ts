import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeZip, type ZipEntry } from '../../test/support/zipWriter.ts';
import { ModelSourceError } from './sourceErrors.ts';
import { extractZipEntry } from './zipEntry.ts';

const text = Buffer.from('the model '.repeat(500));
const other: ZipEntry = { name: 'other.txt', data: Buffer.from('something else') };
const MAX_BYTES = 100_000;

describe('a file out of a zip archive', () => {
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'hearth-zip-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  async function extract(bytes: Uint8Array, entry = 'pkg/model.gguf'): Promise<Buffer> {
    const archive = join(folder, 'archive.zip');
    const into = join(folder, 'out');
    await writeFile(archive, bytes);
    await extractZipEntry({ archive, entry, into, maxBytes: MAX_BYTES });
    return readFile(into);
  }
  const refusal = (bytes: Uint8Array, entry?: string) =>
    extract(bytes, entry).then(
      () => 'accepted',
      (error) => (error instanceof ModelSourceError ? `${error.code}: ${error.message}` : `not ours: ${error}`),
    );

  it('comes out as it went in, deflated or stored, also behind a comment that looks like an end record', async () => {
    const model = { name: 'pkg/model.gguf', data: text };
    expect(await extract(writeZip([other, model]))).toEqual(text);
    expect(await extract(writeZip([{ ...model, stored: true }, other]))).toEqual(text);
    expect(await extract(writeZip([model], `PK\x05\x06${'x'.repeat(60)}`))).toEqual(text);
    expect(await extract(writeZip([{ ...model, data: Buffer.alloc(0) }]))).toHaveLength(0);
  });

  it('says which file is not there', async () => {
    expect(await refusal(writeZip([other]))).toMatch(/^not_found: .*holds no file pkg\/model\.gguf/);
  });

  const model = (claim: ZipEntry['claim'], more: Partial<ZipEntry> = {}) =>
    writeZip([other, { name: 'pkg/model.gguf', data: text, ...more, ...(claim && { claim }) }]);
  const hostile: [string, Uint8Array, RegExp][] = [
    ['no zip at all', Buffer.from('<html>sign in</html>'), /no zip end record/],
    ['an empty file', Buffer.alloc(0), /no zip end record/],
    ['a bomb: more output than declared', model({ bytes: 10 }), /more than its declared 10 bytes/],
    ['more than is allowed', model({ bytes: MAX_BYTES + 1 }), /would unpack to 100001 bytes/],
    ['less output than declared', model({ bytes: text.length + 1 }), /does not match its own size/],
    ['a wrong checksum', model({ crc: 1 }), /does not match its own size or checksum/],
    ['an encrypted entry', model({ flags: 1 }), /is encrypted/],
    ['an unknown compression', model({ method: 12 }), /method 12/],
    ['data that is not deflate', model({ method: 8 }, { stored: true }), /not valid deflate|does not match/],
    ['data that reaches into the directory', model({ compressedBytes: 1_000_000 }), /reaches into the directory/],
    ['a header offset past the end', model({ headerOffset: 0x7fffffff }), /ends inside a record/],
    ['a header offset at something else', model({ headerOffset: 3 }), /no local header/],
    [
      'the same name twice',
      writeZip([
        { name: 'pkg/model.gguf', data: text },
        { name: 'pkg/model.gguf', data: text },
      ]),
      /twice/,
    ],
  ];
  it.each(hostile)('is refused: %s', async (_name, bytes, words) => {
    expect(await refusal(bytes)).toMatch(words);
    expect((await stat(join(folder, 'out')).catch(() => ({ size: 0 }))).size).toBeLessThanOrEqual(MAX_BYTES);
  });

  it('a directory that is larger or elsewhere than the file is refused before it is read', async () => {
    for (const [field, value] of [
      [12, 0x10000000],
      [12, 0x7fffff],
      [16, 0x7fffffff],
      [16, 0xffffffff],
    ] as const) {
      const bytes = model(undefined);
      bytes.writeUInt32LE(value, bytes.length - 22 + field);
      expect(await refusal(bytes)).toMatch(/^bad_archive: /);
    }
  });

  it('an archive that is damaged anywhere gives the true bytes or a refusal, never others and never a crash', async () => {
    const whole = model(undefined);
    const damage = fc.record({ at: fc.nat(whole.length - 1), value: fc.nat(255), cut: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(damage, async ({ at, value, cut }) => {
        const bytes = Buffer.from(cut ? whole.subarray(0, at) : whole);
        if (!cut) bytes[at] = value;
        try {
          expect(await extract(bytes)).toEqual(text);
        } catch (error) {
          expect(error).toBeInstanceOf(ModelSourceError);
        }
      }),
      { numRuns: 300 },
    );
  });
});
