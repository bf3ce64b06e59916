// Writes small zip archives (wheels are zips), with any field of an entry's records made wrong on demand.
import { crc32, deflateRawSync } from 'node:zlib';

export interface ZipEntry {
  name: string;
  data: Uint8Array;
  stored?: boolean;
  /** Claims that differ from the truth. */
  claim?: {
    bytes?: number;
    compressedBytes?: number;
    crc?: number;
    method?: number;
    flags?: number;
    headerOffset?: number;
  };
}

export function writeZip(entries: readonly ZipEntry[], comment = ''): Buffer {
  const locals: Buffer[] = [];
  const records: Buffer[] = [];
  let offset = 0;
  for (const { name, data, stored, claim } of entries) {
    const packed = stored ? Buffer.from(data) : deflateRawSync(data);
    const title = Buffer.from(name);
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(title.length, 26);
    const record = Buffer.alloc(46);
    record.writeUInt32LE(0x02014b50, 0);
    record.writeUInt16LE(claim?.flags ?? 0, 8);
    record.writeUInt16LE(claim?.method ?? (stored ? 0 : 8), 10);
    record.writeUInt32LE(claim?.crc ?? crc32(data), 16);
    record.writeUInt32LE(claim?.compressedBytes ?? packed.length, 20);
    record.writeUInt32LE(claim?.bytes ?? data.length, 24);
    record.writeUInt16LE(title.length, 28);
    record.writeUInt32LE(claim?.headerOffset ?? offset, 42);
    locals.push(local, title, packed);
    records.push(record, title);
    offset += local.length + title.length + packed.length;
  }
  const directory = Buffer.concat(records);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(offset, 16);
  end.writeUInt16LE(Buffer.byteLength(comment), 20);
  return Buffer.concat([...locals, directory, end, Buffer.from(comment)]);
}

/** A wheel that pip accepts: the files, and the metadata that names the package. */
export function writeWheel(
  name: string,
  version: string,
  files: Record<string, Uint8Array>,
): { fileName: string; bytes: Buffer } {
  const info = `${name}-${version}.dist-info`;
  const metadata = `Metadata-Version: 2.1\nName: ${name}\nVersion: ${version}\n`;
  const wheel = 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n';
  const entries = Object.entries(files).map(([path, data]) => ({ name: path, data }));
  const bytes = writeZip([
    ...entries,
    { name: `${info}/METADATA`, data: Buffer.from(metadata) },
    { name: `${info}/WHEEL`, data: Buffer.from(wheel) },
    { name: `${info}/RECORD`, data: Buffer.from('') },
  ]);
  return { fileName: `${name}-${version}-py3-none-any.whl`, bytes };
}
