// Reads the plain files of a small tar archive held in memory. Bounded, and strict: anything that isn't a plain file with a plain
// name is refused, so that nothing in the archive can decide where it is written.

/** An archive of drivers has a handful of entries. */
const MAX_ENTRIES = 64;
const BLOCK = 512;

export class TarError extends Error {
  override readonly name = 'TarError';
  readonly code = 'bad_archive';
}

/** File name to bytes (views into `archive`). Throws TarError. */
export function readTar(archive: Uint8Array): Map<string, Uint8Array> {
  const entries = new Map<string, Uint8Array>();
  for (let at = 0; ; ) {
    const header = archive.subarray(at, at + BLOCK);
    if (header.length < BLOCK) throw new TarError(`the archive ends inside a header at byte ${at}`);
    if (header.every((byte) => byte === 0)) return entries;
    if (entries.size >= MAX_ENTRIES) throw new TarError(`the archive has more than ${MAX_ENTRIES} entries`);
    checkSum(header, at);
    const name = text(header, 0, 100);
    const type = header[156];
    if (type !== 0 && type !== 0x30) throw new TarError(`${JSON.stringify(name)} is not a plain file`);
    if (!/^[\w][\w.-]*$/.test(name) || text(header, 345, 155) !== '')
      throw new TarError(`${JSON.stringify(name)} is not a plain file name`);
    if (entries.has(name)) throw new TarError(`${name} occurs twice`);
    const size = octal(header, 124, 12, name);
    const start = at + BLOCK;
    if (size > archive.length - start) throw new TarError(`${name} reaches past the end of the archive`);
    entries.set(name, archive.subarray(start, start + size));
    at = start + Math.ceil(size / BLOCK) * BLOCK;
  }
}

/** The sum of all header bytes, its own field counted as spaces. */
function checkSum(header: Uint8Array, at: number): void {
  const sum = header.reduce((total, byte, i) => total + (i >= 148 && i < 156 ? 0x20 : byte), 0);
  if (sum !== octal(header, 148, 8, `the header at byte ${at}`))
    throw new TarError(`the header at byte ${at} is damaged`);
}

function text(header: Uint8Array, offset: number, length: number): string {
  const field = header.subarray(offset, offset + length);
  const end = field.indexOf(0);
  return Buffer.from(end < 0 ? field : field.subarray(0, end)).toString('latin1');
}

function octal(header: Uint8Array, offset: number, length: number, what: string): number {
  const digits = text(header, offset, length).trim();
  if (!/^[0-7]{1,12}$/.test(digits)) throw new TarError(`${what} has no valid size or sum`);
  return Number.parseInt(digits, 8);
}
