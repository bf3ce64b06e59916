// Takes one file out of a zip archive (a wheel) without trusting the archive: everything that it claims is checked against the file's
// own size before it is used, output stops at the declared size, and nothing but the wanted entry is ever written.
//
//   [local header | name | extra | data]…  [central directory: one record per entry]  [end record, comment]
//                                          ▲ offset and size ─────────────────────────┘
import { createReadStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { crc32, createInflateRaw } from 'node:zlib';
import { ModelSourceError } from './sourceErrors.ts';

const END_RECORD_BYTES = 22;
const MAX_COMMENT_BYTES = 65_535;
const RECORD_BYTES = 46;
const LOCAL_HEADER_BYTES = 30;
/** A wheel lists some thousand files at most; more than this is no directory to hold in memory. */
const MAX_DIRECTORY_BYTES = 16 * 2 ** 20;
const ENCRYPTED = 1;
const STORED = 0;
const DEFLATED = 8;

interface ZipRecord {
  method: number;
  crc: number;
  compressedBytes: number;
  bytes: number;
  headerOffset: number;
}

function bad(archive: string, what: string): ModelSourceError {
  return new ModelSourceError(
    'bad_archive',
    `${archive}: ${what}. The archive is damaged or not a plain zip; fetch it again.`,
  );
}

async function readExactly(file: FileHandle, archive: string, offset: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  const { bytesRead } = await file.read(buffer, 0, length, offset);
  if (bytesRead !== length) throw bad(archive, `ends inside a record at byte ${offset}`);
  return buffer;
}

async function readDirectory(file: FileHandle, archive: string): Promise<{ directory: Buffer; offset: number }> {
  const { size } = await file.stat();
  const tailBytes = Math.min(size, END_RECORD_BYTES + MAX_COMMENT_BYTES);
  const tail = await readExactly(file, archive, size - tailBytes, tailBytes);
  for (let at = tail.length - END_RECORD_BYTES; at >= 0; at--) {
    if (tail.readUInt32LE(at) !== 0x06054b50) continue;
    if (at + END_RECORD_BYTES + tail.readUInt16LE(at + 20) !== tail.length) continue;
    const bytes = tail.readUInt32LE(at + 12);
    const offset = tail.readUInt32LE(at + 16);
    if (offset === 0xffffffff || bytes === 0xffffffff) throw bad(archive, 'is a zip64 archive, which is not supported');
    if (bytes > MAX_DIRECTORY_BYTES)
      throw bad(archive, `has a directory of ${bytes} bytes (at most ${MAX_DIRECTORY_BYTES})`);
    if (offset + bytes > size - tailBytes + at) throw bad(archive, 'has a directory that reaches past its end');
    return { directory: await readExactly(file, archive, offset, bytes), offset };
  }
  throw bad(archive, 'has no zip end record');
}

function findRecord(directory: Buffer, archive: string, entry: string): ZipRecord {
  const wanted = Buffer.from(entry);
  const found: ZipRecord[] = [];
  for (let at = 0; at < directory.length; ) {
    if (at + RECORD_BYTES > directory.length || directory.readUInt32LE(at) !== 0x02014b50)
      throw bad(archive, `has no directory record at byte ${at}`);
    const nameEnd = at + RECORD_BYTES + directory.readUInt16LE(at + 28);
    const next = nameEnd + directory.readUInt16LE(at + 30) + directory.readUInt16LE(at + 32);
    if (next > directory.length) throw bad(archive, 'has a directory record that reaches past its end');
    if (directory.subarray(at + RECORD_BYTES, nameEnd).equals(wanted)) {
      if (directory.readUInt16LE(at + 8) & ENCRYPTED) throw bad(archive, `${entry} is encrypted`);
      found.push({
        method: directory.readUInt16LE(at + 10),
        crc: directory.readUInt32LE(at + 16),
        compressedBytes: directory.readUInt32LE(at + 20),
        bytes: directory.readUInt32LE(at + 24),
        headerOffset: directory.readUInt32LE(at + 42),
      });
    }
    at = next;
  }
  const [record, second] = found;
  if (!record)
    throw new ModelSourceError('not_found', `${archive} holds no file ${entry}; check the path in the model's source`);
  if (second) throw bad(archive, `lists ${entry} twice`);
  if (record.method !== STORED && record.method !== DEFLATED)
    throw bad(archive, `${entry} is compressed by method ${record.method}; stored and deflated are supported`);
  return record;
}

/** Writes the entry to `into`, overwriting it. `maxBytes` bounds what the entry may unpack to. Throws ModelSourceError. */
export async function extractZipEntry(options: {
  archive: string;
  entry: string;
  into: string;
  maxBytes: number;
  onBytes?: (done: number, total: number) => void;
  signal?: AbortSignal | undefined;
}): Promise<void> {
  const { archive, entry, maxBytes } = options;
  const file = await open(archive, 'r');
  let record: ZipRecord;
  let start: number;
  try {
    const { directory, offset } = await readDirectory(file, archive);
    record = findRecord(directory, archive, entry);
    if (record.bytes > maxBytes)
      throw bad(archive, `${entry} would unpack to ${record.bytes} bytes (at most ${maxBytes})`);
    const header = await readExactly(file, archive, record.headerOffset, LOCAL_HEADER_BYTES);
    if (header.readUInt32LE(0) !== 0x04034b50) throw bad(archive, `${entry} has no local header`);
    start = record.headerOffset + LOCAL_HEADER_BYTES + header.readUInt16LE(26) + header.readUInt16LE(28);
    if (start + record.compressedBytes > offset) throw bad(archive, `${entry} reaches into the directory`);
  } finally {
    await file.close();
  }
  const out = await open(options.into, 'w');
  try {
    let done = 0;
    let crc = 0;
    const sink = async (chunks: AsyncIterable<Buffer>) => {
      for await (const chunk of chunks) {
        done += chunk.length;
        if (done > record.bytes) throw bad(archive, `${entry} unpacks to more than its declared ${record.bytes} bytes`);
        crc = crc32(chunk, crc);
        await out.writeFile(chunk);
        options.onBytes?.(done, record.bytes);
      }
    };
    if (record.compressedBytes > 0) {
      const data = createReadStream(archive, {
        start,
        end: start + record.compressedBytes - 1,
        highWaterMark: 2 ** 20,
      });
      const stop = options.signal ? { signal: options.signal } : {};
      if (record.method === STORED) await pipeline(data, sink, stop);
      else await pipeline(data, createInflateRaw({ chunkSize: 2 ** 20 }), sink, stop);
    }
    if (done !== record.bytes || crc !== record.crc)
      throw bad(archive, `${entry} does not match its own size or checksum (${done} of ${record.bytes} bytes)`);
  } catch (error) {
    if (error instanceof Error && 'code' in error && /^Z_|^ERR_.*ZLIB/.test(String(error.code)))
      throw bad(archive, `${entry} is not valid deflate data`);
    throw error;
  } finally {
    await out.close();
  }
}
