// The journal's bytes: one line per append, `crc32 json\n`, the JSON an array of records that stand or fall together. Whatever a
// kill leaves behind is read back safely: a line that is torn or damaged is skipped, all others still count.
import { crc32 } from 'node:zlib';
import { z } from 'zod';
import { type JournalRecord, journalRecord } from './receipts.ts';

const batch = z.array(journalRecord);
const NEWLINE = 0x0a;
/** Eight hex digits and a space. */
const PREFIX_BYTES = 9;

function checksum(json: Uint8Array): string {
  return crc32(json).toString(16).padStart(8, '0');
}

/** The line of one append. JSON has no raw newline, so the line ends where it says. */
export function encodeLine(records: readonly JournalRecord[]): Uint8Array {
  const json = Buffer.from(JSON.stringify(records));
  return Buffer.concat([Buffer.from(`${checksum(json)} `), json, Buffer.of(NEWLINE)]);
}

function decodeLine(line: Buffer): JournalRecord[] | null {
  if (line.length <= PREFIX_BYTES) return null;
  const json = line.subarray(PREFIX_BYTES);
  if (line.toString('latin1', 0, PREFIX_BYTES) !== `${checksum(json)} `) return null;
  let value: unknown;
  try {
    value = JSON.parse(json.toString('utf8'));
  } catch {
    return null;
  }
  const parsed = batch.safeParse(value);
  return parsed.success ? parsed.data : null;
}

/** Whole, undamaged appends in order; `damaged` counts the lines that were skipped, a torn last one included. */
export function decodeLines(bytes: Buffer): { batches: JournalRecord[][]; damaged: number } {
  const batches: JournalRecord[][] = [];
  let damaged = 0;
  let start = 0;
  while (start < bytes.length) {
    const newline = bytes.indexOf(NEWLINE, start);
    if (newline === -1) {
      damaged++;
      break;
    }
    const records = decodeLine(bytes.subarray(start, newline));
    if (records) batches.push(records);
    else damaged++;
    start = newline + 1;
  }
  return { batches, damaged };
}
